"""Sums of gradients and Adam over many parameters at once, and the watch on losses."""

from __future__ import annotations

import cupy
import numpy

from vdcore.backends.cuda.arguments import number
from vdcore.backends.cuda.module import THREADS, Module

TENSORS = 64  # of one launch: as many as fit into the parameters of a kernel
BLOCK = 16 * THREADS  # elements that a block of threads updates
NEVER = 2**32 - 1  # a block that is not launched


def _tensors(*pointers: str) -> numpy.dtype:
    fields = [(name, numpy.uintp, TENSORS) for name in pointers]
    numbers = [(name, numpy.uint32, TENSORS) for name in ("size", "first_block")]
    return numpy.dtype(fields + numbers, align=True)


_UPDATES = _tensors("parameter", "gradient", "m", "v")
_SUMS = _tensors("first", "second", "total")
_kernels = Module("optimizers")


def adam(
    parameters: list[cupy.ndarray],
    gradients: list[cupy.ndarray],
    ms: list[cupy.ndarray],
    vs: list[cupy.ndarray],
    step: float | cupy.ndarray,
    beta1: float,
    beta2: float,
    eps: float,
    finite: cupy.ndarray | None,
) -> None:
    """As ``kernels.adam``, in place; all arrays are contiguous."""
    for start in range(0, len(parameters), TENSORS):
        part = slice(start, start + TENSORS)
        arrays = (parameters[part], gradients[part], ms[part], vs[part])
        tensors, blocks = _structure(_UPDATES, *arrays)
        # What is left of 1 is computed in double precision, or little is left of it.
        decays = map(float, (beta1, 1 - beta1, beta2, 1 - beta2, eps))
        _kernels.launch("adam", blocks, tensors, number(step), *decays, finite)


def add_each(
    first: list[cupy.ndarray], second: list[cupy.ndarray]
) -> list[cupy.ndarray]:
    """As ``kernels.add_each``; all arrays are contiguous."""
    totals = [cupy.empty_like(array) for array in first]
    for start in range(0, len(first), TENSORS):
        part = slice(start, start + TENSORS)
        arrays = (first[part], second[part], totals[part])
        _kernels.launch("add", *reversed(_structure(_SUMS, *arrays)))
    return totals


def _structure(
    dtype: numpy.dtype, *arrays: list[cupy.ndarray]
) -> tuple[numpy.ndarray, int]:
    """The structure that a launch takes, and its number of blocks."""
    tensors = numpy.zeros(1, dtype)
    (fields,) = tensors
    for name, column in zip(dtype.fields or (), arrays, strict=False):
        fields[name][: len(column)] = [array.data.ptr for array in column]
    sizes = [array.size for array in arrays[0]]
    ends = numpy.cumsum([-(-size // BLOCK) for size in sizes])
    fields["size"][: len(sizes)] = sizes
    fields["first_block"] = NEVER
    fields["first_block"][: len(sizes)] = [0, *ends[:-1]]
    return tensors, int(ends[-1])


def watch_loss(
    loss: cupy.ndarray, finite: cupy.ndarray, updates: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.watch_loss``, in place."""
    _kernels.launch("watch_loss", 1, loss, finite, updates, threads=1)
    return finite, updates
