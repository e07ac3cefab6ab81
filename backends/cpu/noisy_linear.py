"""The noisy linear layer in blocks: a few units, all that they need in the cache.

Activations are feature-major, shape (features, batch), within and between layers: what
one layer puts out is what the next one multiplies by, and each weight meets a
contiguous row. A block of units takes its variances from their logarithms, multiplies
means and variances by the batch, and adds the noise, before the next block begins.

Slices such as ``x[:, 0:]`` change nothing but the type: the product is compiled once,
for matrices that may be parts of others, rather than for each layout.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import feature_major
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.posterior import finish_gradients, kept, limit, posterior
from vdcore.backends.cpu.product import LANES, ROWS, product
from vdcore.backends.cpu.team import parallel_for, team

# Numbers of the right factor that blocks share before they go on to its next columns:
# so many stay in a second-level cache of 1 MiB.
PANEL = 2**17
MIN_SIZE = LANES  # of a batch, and of the input; smaller ones are left to NumPy


def forward(
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    b: numpy.ndarray | None,
    noise: numpy.ndarray,
    threshold: float | None,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_linear_forward``; `noise` may become the residual."""
    x, noise = feature_major(x), numpy.require(noise.T, requirements=["C", "W"])
    y = empty_like(noise)
    if b is None:
        b = numpy.zeros(len(y), y.dtype)
    blocks, panels = _partition(y.shape, len(x))
    _forward(
        team(blocks * panels), blocks, panels, x, numpy.square(x), theta, log_sigma2, b,
        noise, limit(threshold), y,
    )  # fmt: skip
    return y.T, noise.T


def backward(
    gy: numpy.ndarray,
    gvariance: numpy.ndarray,
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    threshold: float | None,
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray]:
    """Gradients by x, theta and log_sigma2, as ``kernels.vd_linear_backward``.

    `gy` and `gvariance` are feature-major.
    """
    examples = numpy.ascontiguousarray(x)
    gtheta, glog_sigma2 = empty_like(theta), empty_like(theta)
    blocks, panels = _partition(theta.shape, len(x))
    _backward_weights(
        team(blocks * panels), blocks, panels, gy, gvariance, examples,
        numpy.square(examples), theta, log_sigma2, limit(threshold), gtheta,
        glog_sigma2,
    )  # fmt: skip
    if not need_x:
        return None, gtheta, glog_sigma2
    means, variances = posterior(theta, log_sigma2, threshold)
    x = feature_major(x)
    gx = empty_like(x)
    blocks, panels = _partition(gx.shape, len(gy))
    _backward_input(
        team(blocks * panels), blocks, panels, gy, gvariance, x, means, variances, gx
    )
    return gx.T, gtheta, glog_sigma2


def _partition(shape: tuple[int, int], depth: int) -> tuple[int, int]:
    """Blocks of rows and panels of columns that a product of `shape` is divided into.

    A panel has four vectors of columns at least.
    """
    height, columns = shape
    panels = min(-(-depth * columns // PANEL), columns // (4 * LANES))
    return -(-height // ROWS), max(panels, 1)


@jit()
def _bounds(part, blocks, panels, shape):
    """Rows and columns of one part: top, bottom, left, right."""
    height, columns = shape
    panel, block = part // blocks, part % blocks
    left = panel * columns // panels // LANES * LANES
    right = (panel + 1) * columns // panels // LANES * LANES
    if panel + 1 == panels:
        right = columns
    top = block * ROWS
    return top, min(top + ROWS, height), left, right


@jit()
def _forward(
    board, blocks, panels, x, x2, theta, log_sigma2, b, noise, threshold, y
):  # fmt: skip
    arguments = (blocks, panels, x, x2, theta, log_sigma2, b, noise, threshold, y)
    parallel_for(board, blocks * panels, _forward_part, arguments)


@jit()
def _forward_part(
    blocks, panels, x, x2, theta, log_sigma2, b, noise, threshold, y, part
):  # fmt: skip
    top, bottom, left, right = _bounds(part, blocks, panels, y.shape)
    height, depth = bottom - top, len(x)
    means = numpy.empty((height, depth), numpy.float32)
    variances = numpy.empty((height, depth), numpy.float32)
    for row in range(height):
        weights, log_variances = theta[top + row], log_sigma2[top + row]
        kept(weights, log_variances, threshold, means[row], variances[row])
    total = numpy.empty((height, right - left), numpy.float32)
    product(means[:, 0:], x[:, left:right], y[top:bottom, left:right])
    product(variances[:, 0:], x2[:, left:right], total[:, 0:])
    for row in range(height):
        mean, draws = y[top + row, left:right], noise[top + row, left:right]
        variance, shift = total[row], b[top + row]
        for j in range(mean.size):
            std = math.sqrt(variance[j] + EPS)
            mean[j] += std * draws[j] + shift
            draws[j] *= HALF / std


@jit()
def _backward_weights(
    board, blocks, panels, gy, gvariance, x, x2, theta, log_sigma2, threshold, gtheta,
    glog_sigma2,
):  # fmt: skip
    arguments = (
        blocks, panels, gy, gvariance, x, x2, theta, log_sigma2, threshold, gtheta,
        glog_sigma2,
    )  # fmt: skip
    parallel_for(board, blocks * panels, _backward_weights_part, arguments)


@jit()
def _backward_weights_part(
    blocks, panels, gy, gvariance, x, x2, theta, log_sigma2, threshold, gtheta,
    glog_sigma2, part,
):  # fmt: skip
    top, bottom, left, right = _bounds(part, blocks, panels, gtheta.shape)
    by_theta = gtheta[top:bottom, left:right]
    product(gy[top:bottom, 0:], x[:, left:right], by_theta)
    by_variance = glog_sigma2[top:bottom, left:right]
    product(gvariance[top:bottom, 0:], x2[:, left:right], by_variance)
    for row in range(top, bottom):
        finish_gradients(
            theta[row, left:right],
            log_sigma2[row, left:right],
            threshold,
            gtheta[row, left:right],
            glog_sigma2[row, left:right],
        )


@jit()
def _backward_input(board, blocks, panels, gy, gvariance, x, means, variances, gx):
    arguments = (blocks, panels, gy, gvariance, x, means, variances, gx)
    parallel_for(board, blocks * panels, _backward_input_part, arguments)


@jit()
def _backward_input_part(
    blocks, panels, gy, gvariance, x, means, variances, gx, part
):  # fmt: skip
    top, bottom, left, right = _bounds(part, blocks, panels, gx.shape)
    by_variance = numpy.empty((bottom - top, right - left), numpy.float32)
    product(means[:, top:bottom].T, gy[:, left:right], gx[top:bottom, left:right])
    product(variances[:, top:bottom].T, gvariance[:, left:right], by_variance[:, 0:])
    for row in range(top, bottom):
        target, values = gx[row, left:right], x[row, left:right]
        slopes = by_variance[row - top]
        for j in range(target.size):
            target[j] += f(2) * values[j] * slopes[j]
