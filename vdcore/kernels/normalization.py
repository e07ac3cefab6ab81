"""Batch normalisation (Ioffe and Szegedy 2015), by axis 1 of arrays of any rank."""

from __future__ import annotations

import math

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def batch_normalization_forward(
    x: Array, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Scale and shift each channel of a batch that was given mean 0 and variance 1.

    Parameters
    ----------
    x : array, shape (batch, channels, ...)
    gamma, beta : array, shape (channels,)
    eps : float
        Added to the variances.

    Returns
    -------
    y : array, shape of `x`
        ``gamma (x - mean) / sqrt(variance + eps) + beta``
    mean, variance : array, shape (channels,)
        Of the channels; the variance is the mean of squares, not yet the estimate.
    """
    xp = array_namespace(x, gamma, beta)
    axes = _all_but_channels(x)
    center = xp.mean(x, axis=axes)
    # The mean of deviations corrects what the first, of large numbers, rounded away.
    mean = center + xp.mean(x - _by_channel(center, x), axis=axes)
    variance = xp.mean(xp.square(x - _by_channel(mean, x)), axis=axes)
    y = fixed_batch_normalization_forward.generic(x, gamma, beta, mean, variance, eps)
    return y, mean, variance


@Kernel
def batch_normalization_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, variance: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_normalization_forward` by x, gamma and beta."""
    by_fixed, ggamma, gbeta = fixed_batch_normalization_backward.generic(
        gy, x, gamma, mean, variance, eps
    )
    xp = array_namespace(gy, x)
    count = math.prod(x.shape) // x.shape[1]
    inverse_std = 1 / xp.sqrt(variance + eps)
    scale = gamma * inverse_std / count
    by_mean = _by_channel(scale * gbeta, x)
    by_variance = _by_channel(scale * inverse_std * ggamma, x)
    gx = by_fixed - by_mean - (x - _by_channel(mean, x)) * by_variance
    return gx, ggamma, gbeta


@Kernel
def fixed_batch_normalization_forward(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, eps: float
) -> Array:
    """As :func:`batch_normalization_forward`, with a mean and variance that are given.

    Parameters
    ----------
    x : array, shape (batch, channels, ...)
    gamma, beta, mean, variance : array, shape (channels,)
    eps : float

    Returns
    -------
    array, shape of `x`
    """
    xp = array_namespace(x, gamma, beta)
    scale = gamma / xp.sqrt(variance + eps)
    # Not one product and one sum a number: with a large mean they would cancel.
    deviations = x - _by_channel(mean, x)
    return deviations * _by_channel(scale, x) + _by_channel(beta, x)


@Kernel
def fixed_batch_normalization_backward(
    gy: Array, x: Array, gamma: Array, mean: Array, variance: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`fixed_batch_normalization_forward` by x, gamma and beta."""
    xp = array_namespace(gy, x)
    axes = _all_but_channels(x)
    inverse_std = 1 / xp.sqrt(variance + eps)
    ggamma = xp.sum(gy * (x - _by_channel(mean, x)), axis=axes) * inverse_std
    gx = gy * _by_channel(gamma * inverse_std, x)
    return gx, ggamma, xp.sum(gy, axis=axes)


@Kernel
def average_statistics(
    avg_mean: Array,
    avg_variance: Array,
    mean: Array,
    variance: Array,
    decay: float,
    correction: float,
) -> tuple[Array, Array]:
    """Running averages with the statistics of one more batch.

    Parameters
    ----------
    avg_mean, avg_variance, mean, variance : array, shape (channels,)
    decay : float
        What the old averages count; the new statistics count what is left of 1.
    correction : float
        Factor of the variance.

    Returns
    -------
    avg_mean, avg_variance : array, shape (channels,)
        A backend may write them into the memory of the old ones.
    """
    new = 1 - decay
    return (
        avg_mean * decay + mean * new,
        avg_variance * decay + variance * (correction * new),
    )


def _all_but_channels(x: Array) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _by_channel(numbers: Array, x: Array) -> Array:
    """One number a channel, in a shape that broadcasts over `x`."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return array_namespace(numbers).reshape(numbers, shape)
