"""Adam over many parameters at once, and the watch on losses."""

from __future__ import annotations

import cupy
import numpy

from vdcore.backends.cuda.arguments import number
from vdcore.backends.cuda.module import THREADS, Module

TENSORS = 64  # of one launch: as many as fit into the parameters of a kernel
BLOCK = 16 * THREADS  # elements that a block of threads updates
NEVER = 2**32 - 1  # a block that is not launched

_POINTERS = ("parameter", "gradient", "m", "v")
_TENSORS = numpy.dtype(
    [(name, numpy.uintp, TENSORS) for name in _POINTERS]
    + [(name, numpy.uint32, TENSORS) for name in ("size", "first_block")],
    align=True,
)
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
        tensors, blocks = _tensors(*arrays)
        # What is left of 1 is computed in double precision, or little is left of it.
        decays = map(float, (beta1, 1 - beta1, beta2, 1 - beta2, eps))
        _kernels.launch("adam", blocks, tensors, number(step), *decays, finite)


def _tensors(*arrays: list[cupy.ndarray]) -> tuple[numpy.ndarray, int]:
    """The structure that a launch takes, and its number of blocks."""
    tensors = numpy.zeros(1, _TENSORS)
    (fields,) = tensors
    for name, column in zip(_POINTERS, arrays, strict=True):
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
