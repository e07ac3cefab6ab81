"""Memory for large arrays, taken up again by the next one when an array is gone.

A training step makes the same large arrays again and again. The system hands memory
out page by page, each cleared when it is first touched, and takes it back with the
array: for arrays of megabytes that costs more than many kernels that fill them.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy

SMALLEST = 2**16  # bytes; below, NumPy's own way is as fast
LINE = 64  # bytes: no vector of an array's begins in one cache line and ends in another
SLACK = 4096


def _quarter_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, ValueError, OSError):
        return 2**30


LIMIT = _quarter_of_memory()  # bytes kept for arrays to come


class _Block:
    """Memory of the system's, and where an array begins in it."""

    __slots__ = ("address", "memory", "size")

    count = 0

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = numpy.empty(size + SLACK, numpy.uint8)
        # Not all at the same place of a page: such arrays displace each other from a
        # cache when they are gone through side by side.
        _Block.count += 1
        first = -(-self.memory.ctypes.data // LINE) * LINE
        self.address = first + 5 * LINE * _Block.count % (SLACK - LINE)


class _Lease:
    """The base of an array: gives the block of memory back when the array is gone."""

    __slots__ = ("__array_interface__", "_block")

    def __init__(self, block: _Block, interface: dict[str, Any]) -> None:
        self._block = block
        self.__array_interface__ = interface

    def __del__(self) -> None:
        global _kept
        block = self._block
        if _kept + block.size <= LIMIT:
            _kept += block.size
            _free.setdefault(block.size, []).append(block)


_free: dict[int, list[_Block]] = {}  # by size
_kept = 0  # bytes of the free blocks, about: threads may count past one another


def empty(shape: tuple[int, ...], dtype: Any = numpy.float32) -> numpy.ndarray:
    """As ``numpy.empty``, at the beginning of a cache line if the array is large."""
    global _kept
    dtype = numpy.dtype(dtype)
    needed = math.prod(shape) * dtype.itemsize
    if needed < SMALLEST:
        return numpy.empty(shape, dtype)
    # Sizes in steps of an eighth, so that arrays of about one size share blocks.
    step = 1 << (needed.bit_length() - 4)
    size = -(-needed // step) * step
    try:
        block = _free[size].pop()
        _kept -= size
    except (KeyError, IndexError):
        block = _Block(size)
    interface = {
        "shape": tuple(shape),
        "typestr": dtype.str,
        "data": (block.address, False),
        "version": 3,
    }
    return numpy.asarray(_Lease(block, interface))


def empty_like(x: numpy.ndarray) -> numpy.ndarray:
    """A C-contiguous array of the shape and dtype of `x`."""
    return empty(x.shape, x.dtype)


def free_all() -> None:
    """Give the memory that no array uses back to the system."""
    global _kept
    _free.clear()
    _kept = 0
