"""Files of a folder, or of the tar archive that it came in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vdcore.datasets.content import read_content, unusable


def read_files(
    place: Path, folder: str, names: Sequence[str]
) -> Iterator[tuple[Path, bytes]]:
    """Yield path and content of files of a folder; nothing is unpacked to the disk.

    Parameters
    ----------
    place : path
        The folder itself, or a tar archive that has it, compressed with gzip or plain.
    folder : str
        Name of the folder in the archive.
    names : sequence of str
        The files wanted, in this order.

    Yields
    ------
    path, bytes
        The path, for error texts, of a file in an archive goes through the archive.

    Raises
    ------
    FileNotFoundError
        If the folder lacks one of the files.
    ValueError
        If the archive is damaged or lacks one.
    """
    if place.is_dir():
        lacking = _lacking(names, [path.name for path in place.iterdir()])
        if lacking:
            message = (
                f"folder {place} is incomplete: it lacks {lacking}; unpack the "
                "official archive again"
            )
            raise FileNotFoundError(message)
        for name in names:
            yield place / name, (place / name).read_bytes()
    else:
        content = read_content(place)
        files = _index(place, content)
        members = [f"{folder}/{name}" for name in names]
        lacking = _lacking(members, files)
        if lacking:
            raise unusable(place, "the whole data set", f"one without {lacking}")
        for member in members:
            yield place / member, content[files[member]]


def _index(path: Path, content: bytes) -> dict[str, slice]:
    """Where in the content of a tar archive its files are."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return {
                member.name.removeprefix("./"): slice(
                    member.offset_data, member.offset_data + member.size
                )
                for member in archive
                if member.isreg() and not member.issparse()
            }
    except (tarfile.TarError, ValueError) as error:
        raise unusable(path, "a whole tar archive", str(error)) from error


def _lacking(names: Iterable[str], there: Iterable[str]) -> str:
    there = set(there)
    return ", ".join(name for name in names if name not in there)
