"""Batch normalisation of a matrix with one column a channel."""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.layout import channels_first, channels_last
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.backends.cuda.tiles import Tiles, tiles_of

_kernels = Module("normalization")


def batch_normalization_forward(
    x: cupy.ndarray, gamma: cupy.ndarray, beta: cupy.ndarray, eps: float
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.batch_normalization_forward``."""
    x = channels_last(x)
    tiles = _tiles(x)
    moments = cupy.empty((2, tiles.bands, tiles.columns), cupy.float64)
    _kernels.launch("moments", tiles.blocks, x, *tiles[:3], *moments)
    mean, variance = cupy.empty((2, tiles.columns), x.dtype)
    _kernels.launch("statistics", tiles.across, *moments, *tiles[:4], mean, variance)
    y = _normalized(x, gamma, beta, mean, variance, eps)
    return channels_first(y), mean, variance


def fixed_batch_normalization_forward(
    x: cupy.ndarray,
    gamma: cupy.ndarray,
    beta: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    eps: float,
) -> cupy.ndarray:
    """As ``kernels.fixed_batch_normalization_forward``."""
    y = _normalized(channels_last(x), gamma, beta, mean, variance, eps)
    return channels_first(y)


def _normalized(
    x: cupy.ndarray,
    gamma: cupy.ndarray,
    beta: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    eps: float,
) -> cupy.ndarray:
    tiles, y = _tiles(x), cupy.empty_like(x)
    arguments = (x, gamma, beta, mean, variance, float(eps), *tiles[:3], y)
    _kernels.launch("normalize", tiles.blocks, *arguments)
    return y


def batch_normalization_backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    gamma: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    eps: float,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.batch_normalization_backward``."""
    gy, x = channels_last(gy), channels_last(x)
    given = (gamma, mean, variance)
    ggamma, gbeta = _by_channel(gy, x, *given, eps, None)
    tiles, gx = _tiles(x), cupy.empty_like(x)
    arguments = (gy, x, *given, ggamma, gbeta, float(eps), *tiles[:3], gx)
    _kernels.launch("by_inputs", tiles.blocks, *arguments)
    return channels_first(gx), ggamma, gbeta


def fixed_batch_normalization_backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    gamma: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    eps: float,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.fixed_batch_normalization_backward``."""
    gy, x = channels_last(gy), channels_last(x)
    gx = cupy.empty_like(x)
    ggamma, gbeta = _by_channel(gy, x, gamma, mean, variance, eps, gx)
    return channels_first(gx), ggamma, gbeta


def average_statistics(
    avg_mean: cupy.ndarray,
    avg_variance: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    decay: float,
    correction: float,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.average_statistics``, in place."""
    share = 1.0 - decay
    numbers = map(float, (decay, share, correction * share))
    arrays = (avg_mean, avg_variance, mean, variance)
    blocks = blocks_for(mean.size)
    _kernels.launch("average", blocks, *arrays, mean.size, *numbers)
    return avg_mean, avg_variance


def _by_channel(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    gamma: cupy.ndarray,
    mean: cupy.ndarray,
    variance: cupy.ndarray,
    eps: float,
    gx: cupy.ndarray | None,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """Gradients by gamma and beta; that by x into `gx`, if the statistics are fixed."""
    tiles = _tiles(x)
    sums = cupy.empty((2, tiles.bands, tiles.columns), cupy.float64)
    _kernels.launch(
        "slope_sums", tiles.blocks, gy, x, gamma, mean, variance, float(eps),
        *tiles[:3], *sums, gx,
    )  # fmt: skip
    ggamma, gbeta = cupy.empty((2, tiles.columns), x.dtype)
    _kernels.launch(
        "by_channel", 2 * tiles.across, *sums, variance, float(eps), tiles.columns,
        tiles.bands, ggamma, gbeta,
    )  # fmt: skip
    return ggamma, gbeta


def _tiles(x: cupy.ndarray) -> Tiles:
    """Of a batch with its channels last, as a matrix."""
    return tiles_of(x.size // x.shape[-1], x.shape[-1])
