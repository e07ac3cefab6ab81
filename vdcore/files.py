"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
    """
    path = Path(path)
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
