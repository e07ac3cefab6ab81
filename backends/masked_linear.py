"""The noisy linear layer with masks, computed from the weights that are left.

Once masks have removed most weights, a training step need not touch the others: the
products run over the kept weights alone, with activations feature-major, so that each
weight meets a contiguous row of the batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy

from vdcore.backends.elementwise import EPS, HALF, f
from vdcore.backends.jit import jit

MAX_DENSITY = 0.08  # above it, dense products are faster on AVX-512 cores


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
    positions = numpy.flatnonzero(keep)
    if positions.size > MAX_DENSITY * theta.size:
        return None
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
) -> numpy.ndarray:
    """As ``kernels.vd_linear_forward``; `noise` becomes the residual."""
    y = numpy.empty_like(noise)
    if b is None:
        b = numpy.zeros(y.shape[1], y.dtype)
    _forward(*kept, numpy.ascontiguousarray(x.T), b, noise, y)
    return y


def backward(
    kept: Kept,
    gy: numpy.ndarray,
    gvariance: numpy.ndarray,
    x: numpy.ndarray,
    shape: tuple[int, int],
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray]:
    """Gradients by x, theta and log_sigma2, as ``kernels.vd_linear_backward``."""
    gtheta = numpy.zeros(shape, gy.dtype)
    glog_sigma2 = numpy.zeros(shape, gy.dtype)
    xt = numpy.ascontiguousarray(x.T)
    gxt = numpy.zeros_like(xt) if need_x else xt[:0]
    rows = (numpy.ascontiguousarray(g.T) for g in (gy, gvariance))
    _backward(*kept, xt, *rows, gtheta, glog_sigma2, gxt)
    return numpy.ascontiguousarray(gxt.T) if need_x else None, gtheta, glog_sigma2


@jit()
def _forward(indptr, columns, theta, sigma2, xt, b, noise, y):
    batch = xt.shape[1]
    mean = numpy.empty(batch, numpy.float32)
    variance = numpy.empty(batch, numpy.float32)
    for o in range(indptr.size - 1):
        mean[:] = b[o]
        variance[:] = EPS
        for q in range(indptr[o], indptr[o + 1]):
            row, w, s = xt[columns[q]], theta[q], sigma2[q]
            for j in range(batch):
                value = row[j]
                mean[j] += w * value
                variance[j] += s * value * value
        for j in range(batch):
            std = math.sqrt(variance[j])
            y[j, o] = mean[j] + std * noise[j, o]
            noise[j, o] *= HALF / std


@jit()
def _backward(
    indptr, columns, theta, sigma2, xt, gyt, gvt, gtheta, glog_sigma2, gxt
):  # fmt: skip
    batch = xt.shape[1]
    for o in range(indptr.size - 1):
        gy, gv = gyt[o], gvt[o]
        for q in range(indptr[o], indptr[o + 1]):
            row = xt[columns[q]]
            by_mean, by_variance = f(0), f(0)
            for j in range(batch):
                by_mean += gy[j] * row[j]
                by_variance += gv[j] * row[j] * row[j]
            gtheta[o, columns[q]] = by_mean
            glog_sigma2[o, columns[q]] = by_variance * sigma2[q]
        if gxt.shape[0]:
            for q in range(indptr[o], indptr[o + 1]):
                row, target = xt[columns[q]], gxt[columns[q]]
                w, s = theta[q], f(2) * sigma2[q]
                for j in range(batch):
                    target[j] += gy[j] * w + gv[j] * row[j] * s
