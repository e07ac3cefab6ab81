"""Host memory that a device can copy from at any time."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy

_alive: weakref.WeakSet = weakref.WeakSet()


class _Pinned:
    """Methods of pinned memory, which is an array of bytes to ctypes and to NumPy."""

    @property
    def ptr(self) -> int:
        """Address."""
        return ctypes.addressof(self)  # type: ignore[arg-type]

    @property
    def mem(self) -> Any:
        """The memory itself."""
        return self

    def size(self) -> int:
        """Number of bytes."""
        return ctypes.sizeof(self)  # type: ignore[arg-type]

    __hash__ = object.__hash__


def alloc_pinned_memory(size: int) -> Any:
    """Pinned memory, which :func:`numpy.frombuffer` takes."""
    kind = type("PinnedMemoryPointer", (_Pinned, ctypes.c_ubyte * size), {})
    memory = kind()
    _alive.add(memory)
    return memory


def is_pinned(values: numpy.ndarray) -> bool:
    """Whether an array lies in pinned memory."""
    first = values.ctypes.data
    return any(
        memory.ptr <= first and first + values.nbytes <= memory.ptr + memory.size()
        for memory in _alive
    )


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> numpy.ndarray:
    """A NumPy array in pinned memory, with garbage in it."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = numpy.dtype(dtype)
    size = int(numpy.prod(shape, dtype=int))
    memory = alloc_pinned_memory(size * dtype.itemsize)
    return numpy.frombuffer(memory, dtype, size).reshape(shape, order=order)


def zeros_pinned(shape: Any, dtype: Any = float, order: str = "C") -> numpy.ndarray:
    """A NumPy array of zeros in pinned memory."""
    return empty_pinned(shape, dtype, order)  # ctypes gives zeros


def empty_like_pinned(a: Any, dtype: Any = None) -> numpy.ndarray:
    """A NumPy array in pinned memory, of the shape and dtype of another array."""
    return empty_pinned(a.shape, dtype or a.dtype)


def zeros_like_pinned(a: Any, dtype: Any = None) -> numpy.ndarray:
    """A NumPy array of zeros in pinned memory, of the shape and dtype of another."""
    return zeros_pinned(a.shape, dtype or a.dtype)


class PinnedMemoryPool:
    """A pool that keeps nothing."""

    __module__ = "cupy.cuda.pinned_memory"

    def malloc(self, size: int) -> Any:
        """Pinned memory."""
        return alloc_pinned_memory(size)

    def free_all_blocks(self) -> None:
        """Free what is kept."""

    def n_free_blocks(self) -> int:
        """Blocks that are kept."""
        return 0


default_pool = PinnedMemoryPool()
