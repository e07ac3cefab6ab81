"""The IDX file format, in which MNIST and its relatives are distributed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy

from vdcore.datasets.content import read_content, unusable

UINT8 = 0x08  # the type code of unsigned bytes, third byte of the magic number


def read_idx(path: str | Path, ndim: int) -> numpy.ndarray:
    """Read an IDX file of unsigned bytes, compressed with gzip or plain.

    Parameters
    ----------
    path : path
    ndim : int
        Dimensions that the array must have: 1 for labels, 3 for images.

    Returns
    -------
    numpy.ndarray of uint8
        Read-only: its memory is what was read.

    Raises
    ------
    ValueError
        If the file is compressed and damaged, is no IDX file of `ndim` dimensions, or
        holds fewer or more bytes than its header promises.

    Notes
    -----
    Big-endian: the magic number (two zero bytes, the type code, the number of
    dimensions), then each dimension as an unsigned 32-bit integer, then the values.
    """
    path = Path(path)
    content = read_content(path)
    magic = bytes([0, 0, UINT8, ndim])
    header_size = 4 + 4 * ndim
    if content[:4] != magic or len(content) < header_size:
        expected = (
            f"an IDX file of bytes in {ndim} dimensions, magic number "
            f"{int.from_bytes(magic, 'big')}"
        )
        number = int.from_bytes(content[:4], "big")
        actual = f"{len(content)} bytes that begin with {content[:8]!r} ({number})"
        raise unusable(path, expected, actual)

    shape = numpy.frombuffer(content, ">u4", ndim, 4).tolist()
    size = math.prod(shape)
    if len(content) - header_size != size:
        expected = f"{size} bytes after the header, which says {tuple(shape)}"
        raise unusable(path, expected, f"{len(content) - header_size}")
    return numpy.frombuffer(content, numpy.uint8, size, header_size).reshape(shape)
