"""Writing a file whole or not at all, and reading arrays from one."""

from __future__ import annotations

import io
import os
import secrets
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy
from numpy.lib import format as npy

# What zipfile raises for bytes that it can make no sense of.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


class FileFormatError(ValueError):
    """A file is damaged, foreign, or does not fit the object that reads it."""


class _NoArrayError(Exception):
    """An undamaged entry does not hold an array."""


@contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the place of `path` when the block succeeds.

    The bytes go to a temporary file in the same folder, which is made if it is not
    there. It reaches the disk before it takes the name, so that a process killed at
    any instant leaves the former file whole. After an exception (Ctrl-C too) `path`
    is as it was and the temporary file is gone.

    Parameters
    ----------
    path : path-like
        The file to write or replace.

    Raises
    ------
    IsADirectoryError
        If `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        message = (
            f"cannot write `{path}`: it is a folder; give the path of a file, for "
            f"example `{path / 'model.npz'}`"
        )
        raise IsADirectoryError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 in place of what `path` holds, whole or not at all."""
    with open_atomically(path) as file:
        file.write(text.encode())


def read_arrays(
    path: str | os.PathLike[str], operation: str, writer: str
) -> dict[str, numpy.ndarray]:
    """Read all arrays of an ``.npz`` file, never a pickle.

    Parameters
    ----------
    path : path-like
    operation, writer : str
        For the error texts: what is reading, and what writes such files.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If `path` is a folder.
    FileFormatError
        If the file is damaged, cut short, no ``.npz``, or holds anything but arrays.
    """
    path = Path(path)
    expected = f"expected a file written by {writer}"
    if not path.exists():
        message = f"{operation}: there is no file `{path}`; {expected}; check the path"
        raise FileNotFoundError(message)
    if path.is_dir():
        message = (
            f"{operation}: `{path}` is a folder; {expected}; give the path of the file"
        )
        raise IsADirectoryError(message)
    with path.open("rb") as file:
        head = file.read(4)
        if not head.startswith(b"PK"):
            message = (
                f"{operation}: `{path}` is not an .npz file, it begins with {head!r}; "
                f"{expected} (a pickle is never loaded)"
            )
            raise FileFormatError(message)
        try:
            return _arrays(file)
        except _NoArrayError as error:
            message = (
                f"{operation}: `{path}` holds an entry that is no plain array "
                f"({error}); {expected}"
            )
            raise FileFormatError(message) from error
        except _DAMAGE as error:
            message = (
                f"{operation}: `{path}` is damaged or was cut short ({error!r}); use "
                f"another copy or an earlier snapshot, or write it again by {writer}"
            )
            raise FileFormatError(message) from error


def _arrays(file: IO[bytes]) -> dict[str, numpy.ndarray]:
    with zipfile.ZipFile(file) as archive:
        arrays = {
            entry.filename.removesuffix(".npy"): _array(archive, entry)
            for entry in archive.infolist()
        }
        # A wrong length in the directory hides what comes next. The count is at byte 10
        # of the last 22, up to the comment; zipfile does not compare it.
        file.seek(10 - 22 - len(archive.comment), os.SEEK_END)
        count = int.from_bytes(file.read(2), "little")
    if min(len(arrays), 0xFFFF) != count:
        message = f"{len(arrays)} entries were found, and {count} are counted"
        raise zipfile.BadZipFile(message)
    return arrays


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> numpy.ndarray:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Neither NumPy nor we write it; the other methods' errors are of other classes.
        message = f"{entry.filename!r} is compressed by method {entry.compress_type}"
        raise zipfile.BadZipFile(message)
    # Whole, so that the checksum has been compared before anything is made of it.
    content = io.BytesIO(archive.read(entry))
    try:
        return npy.read_array(content, allow_pickle=False)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError) as error:
        message = f"{entry.filename!r}: {error}"
        raise _NoArrayError(message) from error
