"""Content of a data set's file, compressed or plain; the error for a bad one."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path


def read_content(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is compressed with gzip.

    Raises
    ------
    ValueError
        If it is compressed and damaged.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise unusable(path, "a whole gzip file", str(error)) from error
    return content


def unusable(path: Path, expected: str, actual: str) -> ValueError:
    """The error for a file that is there and is not what it should be."""
    remedy = "replace it by the official file"
    if os.environ.get("VDCORE_DATASET_ROOT"):
        remedy += ", or unset VDCORE_DATASET_ROOT to have that downloaded"
    message = f"file {path} is unusable: expected {expected}, got {actual}; {remedy}"
    return ValueError(message)
