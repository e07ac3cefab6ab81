"""The noisy linear layer with masks, computed from the weights that are left.

Once masks have removed most weights, a training step need not touch the others: the
products run over the kept weights alone, with activations feature-major, so that each
weight meets a contiguous row of the batch. An input of which all weights are masked is
not read, so that a NaN in it does not reach the outputs, as 0 times NaN would.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import feature_major
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.team import parallel_for, team

MAX_DENSITY = 0.08  # above it, dense products are faster on AVX-512 cores
EXAMPLES = 64  # that a thread takes at a time for the gradient by the input


class Kept(NamedTuple):
    """The kept weights of a layer, row by row, with their variances."""

    indptr: numpy.ndarray
    columns: numpy.ndarray
    theta: numpy.ndarray
    sigma2: numpy.ndarray


def kept_weights(
    theta: numpy.ndarray, log_sigma2: numpy.ndarray, keep: numpy.ndarray
) -> Kept | None:
    """The weights that a mask keeps; None if they are too many for this to pay."""
    if numpy.count_nonzero(keep) > MAX_DENSITY * keep.size:
        return None
    positions = numpy.flatnonzero(keep)
    out_size, in_size = theta.shape
    starts = numpy.arange(out_size + 1) * in_size
    return Kept(
        numpy.searchsorted(positions, starts),
        positions % in_size,
        theta.reshape(-1)[positions],
        numpy.exp(log_sigma2.reshape(-1)[positions]),
    )


def forward(
    kept: Kept, x: numpy.ndarray, b: numpy.ndarray | None, noise: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_linear_forward``; `noise` may become the residual."""
    noise = numpy.require(noise.T, requirements=["C", "W"])
    y = empty_like(noise)
    if b is None:
        b = numpy.zeros(len(y), y.dtype)
    _forward(team(len(y)), *kept, feature_major(x), b, noise, y)
    return y.T, noise.T


def backward(
    kept: Kept,
    gy: numpy.ndarray,
    gvariance: numpy.ndarray,
    x: numpy.ndarray,
    shape: tuple[int, int],
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray]:
    """Gradients by x, theta and log_sigma2, as ``kernels.vd_linear_backward``.

    `gy` and `gvariance` are feature-major.
    """
    gtheta, glog_sigma2 = empty(shape, gy.dtype), empty(shape, gy.dtype)
    x = feature_major(x)
    board = team(len(gy))
    _backward_weights(board, *kept, x, gy, gvariance, gtheta, glog_sigma2)
    if not need_x:
        return None, gtheta, glog_sigma2
    gx = empty_like(x)
    _backward_input(board, *kept, x, gy, gvariance, gx)
    return gx.T, gtheta, glog_sigma2


@jit()
def _forward(board, indptr, columns, theta, sigma2, x, b, noise, y):
    arguments = (indptr, columns, theta, sigma2, x, b, noise, y)
    parallel_for(board, len(y), _forward_unit, arguments)


@jit()
def _forward_unit(indptr, columns, theta, sigma2, x, b, noise, y, unit):
    mean, draws = y[unit], noise[unit]
    variance = numpy.empty(mean.size, numpy.float32)
    mean[:] = b[unit]
    variance[:] = EPS
    for q in range(indptr[unit], indptr[unit + 1]):
        row, w, s = x[columns[q]], theta[q], sigma2[q]
        for j in range(mean.size):
            mean[j] += w * row[j]
            variance[j] += s * row[j] * row[j]
    for j in range(mean.size):
        std = math.sqrt(variance[j])
        mean[j] += std * draws[j]
        draws[j] *= HALF / std


@jit()
def _backward_weights(
    board, indptr, columns, theta, sigma2, x, gy, gvariance, gtheta, glog_sigma2
):  # fmt: skip
    arguments = (indptr, columns, sigma2, x, gy, gvariance, gtheta, glog_sigma2)
    parallel_for(board, len(gy), _backward_weights_unit, arguments)


@jit()
def _backward_weights_unit(
    indptr, columns, sigma2, x, gy, gvariance, gtheta, glog_sigma2, unit
):  # fmt: skip
    gm, gv = gy[unit], gvariance[unit]
    gtheta[unit] = f(0)
    glog_sigma2[unit] = f(0)
    for q in range(indptr[unit], indptr[unit + 1]):
        row = x[columns[q]]
        by_mean, by_variance = f(0), f(0)
        for j in range(row.size):
            by_mean += gm[j] * row[j]
            by_variance += gv[j] * row[j] * row[j]
        gtheta[unit, columns[q]] = by_mean
        glog_sigma2[unit, columns[q]] = by_variance * sigma2[q]


@jit()
def _backward_input(board, indptr, columns, theta, sigma2, x, gy, gvariance, gx):
    parts = (x.shape[1] + EXAMPLES - 1) // EXAMPLES
    arguments = (indptr, columns, theta, sigma2, x, gy, gvariance, gx)
    parallel_for(board, parts, _backward_input_part, arguments)


@jit()
def _backward_input_part(
    indptr, columns, theta, sigma2, x, gy, gvariance, gx, part
):  # fmt: skip
    left, right = part * EXAMPLES, min((part + 1) * EXAMPLES, x.shape[1])
    gx[:, left:right] = f(0)
    for unit in range(len(gy)):
        gm, gv = gy[unit, left:right], gvariance[unit, left:right]
        for q in range(indptr[unit], indptr[unit + 1]):
            row, target = x[columns[q], left:right], gx[columns[q], left:right]
            w, s = theta[q], f(2) * sigma2[q]
            for j in range(row.size):
                target[j] += gm[j] * w + gv[j] * row[j] * s
