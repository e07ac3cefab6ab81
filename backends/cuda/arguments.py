"""Structures that kernels take by value; they hold addresses, but keep no array."""

from __future__ import annotations

import functools
from typing import Any

import cupy
import numpy

NUMBER = numpy.dtype([("where", numpy.uintp), ("value", numpy.float32)], align=True)
_KEY = numpy.dtype([("where", numpy.uintp), ("value", numpy.uint32, 4)], align=True)
DIVISOR = numpy.dtype([(name, "u4") for name in ("divisor", "multiplier", "shift")])


def structure(dtype: numpy.dtype, values: tuple[Any, ...]) -> numpy.ndarray:
    """A structure, in the form that CuPy passes by value."""
    return numpy.array([values], dtype)


def number(x: Any) -> numpy.ndarray:
    """``Number``: a float, or a float32 array of shape () that a kernel is to read."""
    if isinstance(x, cupy.ndarray):
        return structure(NUMBER, (x.data.ptr, 0))
    return structure(NUMBER, (0, x))


def key(x: Any) -> numpy.ndarray:
    """``Key`` of random numbers: uint32, shape (4,), of the host or of the device."""
    if isinstance(x, cupy.ndarray):
        return structure(_KEY, (x.data.ptr, (0, 0, 0, 0)))
    return structure(_KEY, (0, tuple(x)))


@functools.cache
def divisor(n: int) -> numpy.ndarray:
    """``Divisor`` by a positive integer; also as a field of other structures."""
    shift = (n - 1).bit_length()
    multiplier = 2**32 * (2**shift - n) // n + 1
    return numpy.array((n, multiplier, shift), DIVISOR)
