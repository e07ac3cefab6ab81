"""An engine of convolutions, as :mod:`~vdcore.backends.cuda.unfolding` is: cuDNN's.

Each power of the images is a convolution of its own, both by one plan. All raise
``UnsupportedError`` where cuDNN is not to be had, or cannot do them.
"""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.cudnn_plans import Geometry, plan_for
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.windows import Window

_kernels = Module("powers")


def products(
    x: cupy.ndarray, weights: cupy.ndarray, window: Window, groups: int
) -> cupy.ndarray:
    """Images convolved with weights."""
    geometry = Geometry(x.shape, weights.shape[1], window, groups)
    plan = plan_for("conv_fprop", geometry)
    result = cupy.empty((len(weights), *geometry.products), x.dtype)
    plan.run(*zip(_powers(x, len(weights)), weights, result, strict=True))
    return result


def weight_products(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """Gradient by weights of this shape; a single part of each."""
    plan = plan_for("conv_wgrad", Geometry(x.shape, shape[0], window, groups))
    result = cupy.empty((len(slopes), 1, *shape), x.dtype)
    plan.run(*zip(_powers(x, len(slopes)), slopes, result, strict=True))
    return result


def input_gradient(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    weights: cupy.ndarray,
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """Gradient by images: that by themselves, and 2 x times that by their squares."""
    geometry = Geometry(x.shape, weights.shape[1], window, groups)
    plan = plan_for("conv_dgrad", geometry)
    results = [cupy.empty_like(x) for _ in range(len(weights))]
    plan.run(*zip(slopes, weights, results, strict=True))
    if len(results) == 2:
        gx, by_squares = results
        _kernels.launch("add_by_squares", _blocks(x), x, by_squares, x.size, gx)
    return results[0]


def _powers(x: cupy.ndarray, count: int) -> list[cupy.ndarray]:
    """The images and, if there are two, their squares."""
    if count == 1:
        return [x]
    squares = cupy.empty_like(x)
    _kernels.launch("square", _blocks(x), x, x.size, squares)
    return [x, squares]


def _blocks(x: cupy.ndarray) -> int:
    return blocks_for(-(-x.size // 4))
