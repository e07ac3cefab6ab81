"""Batch normalisation of feature-major float32 arrays, one channel at a time.

A channel is one run of numbers (see :mod:`vdcore.backends.cpu.layout`), which stays in
the cache from the pass that sums it to the one that scales it. Indices are unsigned,
for one that might be negative stops vectorisation, and no array is sliced: slices count
references, and threads that count those of one array wait for each other.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import PIECE, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import batch_major, feature_major, parts_of
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.team import parallel_for, team

u = numpy.uint64


def batch_normalization_forward(
    x: numpy.ndarray, gamma: numpy.ndarray, beta: numpy.ndarray, eps: float
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.batch_normalization_forward``."""
    x = feature_major(x)
    y, mean, variance = (empty_like(a) for a in (x, gamma, gamma))
    parts = parts_of(x)
    arrays = (_rows(x), gamma, beta, _rows(y), mean, variance)
    _batch_forward(team(parts), parts, *arrays, eps)
    return batch_major(y), mean, variance


def batch_normalization_backward(
    gy: numpy.ndarray,
    x: numpy.ndarray,
    gamma: numpy.ndarray,
    mean: numpy.ndarray,
    variance: numpy.ndarray,
    eps: float,
    fixed: bool = False,
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.batch_normalization_backward``, or that of the fixed one."""
    gy, x = feature_major(gy), feature_major(x)
    gx, ggamma, gbeta = (empty_like(a) for a in (x, gamma, gamma))
    parts = parts_of(x)
    arrays = (_rows(gy), _rows(x), gamma, mean, variance, _rows(gx), ggamma, gbeta)
    _backward(team(parts), parts, *arrays, eps, fixed)
    return batch_major(gx), ggamma, gbeta


def fixed_batch_normalization_forward(
    x: numpy.ndarray,
    gamma: numpy.ndarray,
    beta: numpy.ndarray,
    mean: numpy.ndarray,
    variance: numpy.ndarray,
    eps: float,
) -> numpy.ndarray:
    """As ``kernels.fixed_batch_normalization_forward``."""
    x = feature_major(x)
    y = empty_like(x)
    scale = gamma / numpy.sqrt(variance + f(eps))
    parts = parts_of(x)
    _fixed_forward(team(parts), parts, _rows(x), mean, scale, beta, _rows(y))
    return batch_major(y)


def fixed_batch_normalization_backward(
    gy: numpy.ndarray,
    x: numpy.ndarray,
    gamma: numpy.ndarray,
    mean: numpy.ndarray,
    variance: numpy.ndarray,
    eps: float,
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.fixed_batch_normalization_backward``."""
    return batch_normalization_backward(gy, x, gamma, mean, variance, eps, fixed=True)


def _rows(x: numpy.ndarray) -> numpy.ndarray:
    """One row for each channel."""
    return x.reshape(len(x), -1)


@jit()
def _batch_forward(board, parts, x, gamma, beta, y, mean, variance, eps):
    arguments = (parts, x, gamma, beta, y, mean, variance, eps)
    parallel_for(board, parts, _batch_forward_part, arguments)


@jit()
def _batch_forward_part(parts, x, gamma, beta, y, mean, variance, eps, part):
    channels, count = x.shape
    first, end = part * channels // parts, (part + 1) * channels // parts
    for channel in range(first, end):
        center, squares = _moments(x, channel)
        scale = gamma[channel] / math.sqrt(squares / count + eps)
        mean[channel] = center
        variance[channel] = squares / count
        # The part of the mean that float32 cannot hold, for y is to be right though
        # the numbers be large.
        rest = (mean[channel] - center) * scale
        _scale(x, mean[channel], f(scale), f(beta[channel] + rest), y, channel)


@jit()
def _moments(x, channel):
    """Mean, and sum of squared deviations from it, in double precision.

    Pieces are summed in single precision, each about a number close to its mean, and
    then put together (Chan, Golub and LeVeque 1979).
    """
    count = x.shape[1]
    mean, squares = 0.0, 0.0
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        near = x[channel, start] if start == 0 else f(mean)
        total = f(0)
        for j in range(u(start), u(start + size)):
            total += x[channel, j] - near
        center = near + total / f(size)
        spread, rest = f(0), f(0)
        for j in range(u(start), u(start + size)):
            deviation = x[channel, j] - center
            spread += deviation * deviation
            rest += deviation
        # What rounding left of the mean of the piece: its deviations should sum to 0.
        rest_mean = float(rest) / size
        step = float(center) + rest_mean - mean
        squares += (
            spread - rest * rest_mean + step * step * (start * size) / (start + size)
        )
        mean += step * size / (start + size)
    return mean, squares


@jit()
def _scale(x, mean, scale, shift, y, channel):
    for j in range(u(x.shape[1])):
        y[channel, j] = (x[channel, j] - mean) * scale + shift


@jit()
def _fixed_forward(board, parts, x, mean, scale, shift, y):
    parallel_for(board, parts, _fixed_forward_part, (parts, x, mean, scale, shift, y))


@jit()
def _fixed_forward_part(parts, x, mean, scale, shift, y, part):
    channels = len(x)
    for channel in range(part * channels // parts, (part + 1) * channels // parts):
        _scale(x, mean[channel], scale[channel], shift[channel], y, channel)


@jit()
def _backward(
    board, parts, gy, x, gamma, mean, variance, gx, ggamma, gbeta, eps, fixed
):  # fmt: skip
    arguments = (parts, gy, x, gamma, mean, variance, gx, ggamma, gbeta, eps, fixed)
    parallel_for(board, parts, _backward_part, arguments)


@jit()
def _backward_part(
    parts, gy, x, gamma, mean, variance, gx, ggamma, gbeta, eps, fixed, part
):  # fmt: skip
    channels, count = x.shape
    for channel in range(part * channels // parts, (part + 1) * channels // parts):
        center = mean[channel]
        total, product = _sums(gy, x, center, channel)
        inverse_std = 1 / math.sqrt(variance[channel] + eps)
        ggamma[channel] = product * inverse_std
        gbeta[channel] = total
        scale = gamma[channel] * inverse_std
        by_mean = f(scale * total / count)
        by_variance = f(scale * inverse_std * inverse_std * product / count)
        scale = f(scale)
        if fixed:
            for j in range(u(count)):
                gx[channel, j] = gy[channel, j] * scale
        else:
            for j in range(u(count)):
                slope = (x[channel, j] - center) * by_variance + by_mean
                gx[channel, j] = gy[channel, j] * scale - slope


@jit()
def _sums(gy, x, center, channel):
    """Sums of gy and of its products with the deviations, in double precision."""
    count = x.shape[1]
    total, product = 0.0, 0.0
    for start in range(0, count, PIECE):
        slopes, products = f(0), f(0)
        for j in range(u(start), u(min(start + PIECE, count))):
            slopes += gy[channel, j]
            products += gy[channel, j] * (x[channel, j] - center)
        total += slopes
        product += products
    return total, product
