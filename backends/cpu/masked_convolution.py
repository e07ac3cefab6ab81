"""The noisy convolution with masks, computed from the weights that are left.

As in :mod:`vdcore.backends.cpu.masked_linear`: each kept weight meets whole strips of
pixels, and what all weights of an output channel add to a strip stays in the cache.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF, f
from vdcore.backends.cpu.images import (
    Strips,
    multiply,
    padded_strips,
    spread,
)
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import batch_major, feature_major
from vdcore.backends.cpu.masked_linear import Kept
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.windows import Window

# Indices are unsigned: one that might be negative stops vectorisation. And not slices:
# threads that count references to one array wait for each other.
u = numpy.uint64


def forward(
    kept: Kept,
    x: numpy.ndarray,
    shape: tuple[int, ...],
    b: numpy.ndarray | None,
    noise: numpy.ndarray,
    window: Window,
    groups: int,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_convolution_forward``; `noise` may become the residual.

    `shape` is that of the weights.
    """
    noise = numpy.require(feature_major(noise), requirements="W")
    plan, image = padded_strips(feature_major(x), window, shape[1])
    y = empty_like(noise)
    if b is None:
        b = numpy.zeros(len(y), y.dtype)
    _forward(
        team(len(y)), kept.indptr, _places(kept, plan, image, groups), kept.theta,
        kept.sigma2, image.reshape(-1), b, plan.starts, plan.length,
        noise.reshape(len(y), -1), y.reshape(len(y), -1),
    )  # fmt: skip
    return batch_major(y), batch_major(noise)


def backward(
    kept: Kept,
    gy: numpy.ndarray,
    x: numpy.ndarray,
    shape: tuple[int, ...],
    residual: numpy.ndarray,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_convolution_backward``; `shape` is that of the weights."""
    gy, x = feature_major(gy), feature_major(x)
    slopes, variance_slopes = (
        a.reshape(len(gy), -1) for a in (gy, multiply(gy, feature_major(residual)))
    )
    plan, image = padded_strips(x, window, shape[1])
    places = _places(kept, plan, image, groups)
    gtheta, glog_sigma2 = numpy.zeros((2, len(gy), plan.rows.size), gy.dtype)
    _backward_weights(
        team(len(gy)), kept.indptr, kept.columns, places, kept.sigma2,
        image.reshape(-1), plan.starts, plan.length, slopes, variance_slopes, gtheta,
        glog_sigma2,
    )  # fmt: skip
    gradients = gtheta.reshape(shape), glog_sigma2.reshape(shape), slopes.sum(axis=1)
    if not need_x:
        return None, *gradients
    # By input channel: each is written by one thread.
    plane = image[0].size
    order = numpy.argsort(places // plane, kind="stable")
    units = numpy.repeat(numpy.arange(len(gy)), numpy.diff(kept.indptr))
    gimage = empty_like(image)
    _backward_input(
        team(len(image)), numpy.searchsorted(places[order] // plane, range(len(x) + 1)),
        units[order], places[order] % plane, kept.theta[order], kept.sigma2[order],
        image.reshape(len(x), -1), plan.starts, plan.length, slopes, variance_slopes,
        gimage.reshape(len(x), -1),
    )  # fmt: skip
    (top, left), (_, height, width, _) = window.pad, x.shape
    return batch_major(spread(gimage, (height, width), (-top, -left))), *gradients


def _places(
    kept: Kept, plan: Strips, image: numpy.ndarray, groups: int
) -> numpy.ndarray:
    """Where in the padded input the kept weights meet the first strip."""
    outputs = len(kept.indptr) - 1
    first = numpy.arange(outputs) * groups // outputs * (image.size // groups)
    return plan.rows[kept.columns] + numpy.repeat(first, numpy.diff(kept.indptr))


@jit()
def _forward(
    board, indptr, places, theta, sigma2, image, b, starts, length, noise, y
):  # fmt: skip
    arguments = (indptr, places, theta, sigma2, image, b, starts, length, noise, y)
    parallel_for(board, len(y), _forward_unit, arguments)


@jit()
def _forward_unit(
    indptr, places, theta, sigma2, image, b, starts, length, noise, y, unit
):  # fmt: skip
    variance = numpy.empty(length, numpy.float32)
    for strip in range(len(starts)):
        mean = y[unit, strip * length : (strip + 1) * length]
        draws = noise[unit, strip * length : (strip + 1) * length]
        mean[:] = b[unit]
        variance[:] = EPS
        for q in range(indptr[unit], indptr[unit + 1]):
            start, w, s = u(starts[strip] + places[q]), theta[q], sigma2[q]
            for j in range(u(mean.size)):
                value = image[start + j]
                mean[j] += w * value
                variance[j] += s * value * value
        for j in range(mean.size):
            std = math.sqrt(variance[j])
            mean[j] += std * draws[j]
            draws[j] *= HALF / std


@jit()
def _backward_weights(
    board, indptr, columns, places, sigma2, image, starts, length, gy, gvariance,
    gtheta, glog_sigma2,
):  # fmt: skip
    arguments = (
        indptr, columns, places, sigma2, image, starts, length, gy, gvariance, gtheta,
        glog_sigma2,
    )  # fmt: skip
    parallel_for(board, len(gy), _backward_weights_unit, arguments)


@jit()
def _backward_weights_unit(
    indptr, columns, places, sigma2, image, starts, length, gy, gvariance, gtheta,
    glog_sigma2, unit,
):  # fmt: skip
    for strip in range(len(starts)):
        gm = gy[unit, strip * length : (strip + 1) * length]
        gv = gvariance[unit, strip * length : (strip + 1) * length]
        for q in range(indptr[unit], indptr[unit + 1]):
            start = u(starts[strip] + places[q])
            by_mean, by_variance = f(0), f(0)
            for j in range(u(gm.size)):
                value = image[start + j]
                by_mean += gm[j] * value
                by_variance += gv[j] * value * value
            gtheta[unit, columns[q]] += by_mean
            glog_sigma2[unit, columns[q]] += by_variance * sigma2[q]


@jit()
def _backward_input(
    board, indptr, units, places, theta, sigma2, image, starts, length, gy, gvariance,
    gimage,
):  # fmt: skip
    arguments = (
        indptr, units, places, theta, sigma2, image, starts, length, gy, gvariance,
        gimage,
    )  # fmt: skip
    parallel_for(board, len(gimage), _backward_input_channel, arguments)


@jit()
def _backward_input_channel(
    indptr, units, places, theta, sigma2, image, starts, length, gy, gvariance, gimage,
    channel,
):  # fmt: skip
    target, values = gimage[channel], image[channel]
    target[:] = f(0)
    for strip in range(len(starts)):
        for q in range(indptr[channel], indptr[channel + 1]):
            start, output = u(starts[strip] + places[q]), u(strip * length)
            unit, w, s = units[q], theta[q], f(2) * sigma2[q]
            for j in range(u(length)):
                by_mean, by_variance = gy[unit, output + j], gvariance[unit, output + j]
                target[start + j] += by_mean * w + by_variance * values[start + j] * s
