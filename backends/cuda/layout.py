"""How arrays lie in memory: images with their channels last, all else in any order.

Images have shape (batch, channels, height, width) and lie in memory as (batch, height,
width, channels), between layers and within them: a pixel's channels are neighbours, as
products, cuDNN and tensor cores like them best, and the outputs of a convolution are a
matrix with one column a channel. What has no further axes than (batch, features) lies
in its own order.
"""

from __future__ import annotations

import math

import cupy
import numpy

from vdcore.backends.cuda.module import Module
from vdcore.backends.cuda.tiles import WARP

_kernels = Module("layout")


def channels_last(x: cupy.ndarray) -> cupy.ndarray:
    """Shape (batch, ..., channels), contiguous; a copy unless `x` lies like that."""
    moved = x.transpose(0, *range(2, x.ndim), 1)
    if moved.flags.c_contiguous:
        return moved
    if x.dtype != numpy.float32 or not x.flags.c_contiguous:
        return cupy.ascontiguousarray(moved)
    # What comes from elsewhere: CuPy's copy would read with large steps.
    batch, channels, *size = x.shape
    pixels, result = math.prod(size), cupy.empty(moved.shape, x.dtype)
    blocks = batch * -(-channels // WARP) * -(-pixels // WARP)
    _kernels.launch("to_channels_last", blocks, x, channels, pixels, result)
    return result


def channels_first(x: cupy.ndarray) -> cupy.ndarray:
    """The view of shape (batch, channels, ...) of one with its channels last."""
    return x.transpose(0, -1, *range(1, x.ndim - 1))


def flat(x: cupy.ndarray) -> tuple[cupy.ndarray, list[int]]:
    """Elements in the order of memory, and the order of axes that this is.

    A copy only of what lies in memory with gaps, or with repetitions.
    """
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    return flat_in(x, order), order


def flat_in(x: cupy.ndarray, order: list[int]) -> cupy.ndarray:
    """Elements, the axes in this order; a copy unless `x` lies like that."""
    return cupy.ascontiguousarray(x.transpose(order)).reshape(-1)


def shaped(elements: cupy.ndarray, like: cupy.ndarray, order: list[int]):
    """The view with the shape of `like` of elements in this order of axes."""
    ordered = elements.reshape([like.shape[axis] for axis in order])
    return ordered.transpose([int(axis) for axis in numpy.argsort(order)])
