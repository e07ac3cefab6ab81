"""Compiled convolution, plain and noisy, in blocks of channels and strips of pixels.

Images are feature-major; see :mod:`vdcore.backends.cpu.images`.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF
from vdcore.backends.cpu.images import multiply, padded_strips
from vdcore.backends.cpu.input_gradient import input_gradient, noisy_input_gradient
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import batch_major, feature_major
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.partition import bounds, partition
from vdcore.backends.cpu.posterior import finish, posterior
from vdcore.backends.cpu.product import LANES, scattered_product
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.weight_gradient import weight_gradient
from vdcore.windows import Window

MIN_BATCH = LANES  # smaller batches are left to NumPy


def forward(
    x: numpy.ndarray,
    W: numpy.ndarray,
    b: numpy.ndarray | None,
    window: Window,
    groups: int,
) -> numpy.ndarray:
    """As ``kernels.convolution_forward``."""
    x = feature_major(x)
    plan, image = padded_strips(x, window, W.shape[1])
    y = _output(x, W, window)
    blocks, panel, parts = partition(plan, len(W) // groups, groups)
    _forward(
        team(parts), parts, blocks, panel, image.reshape(-1), _matrix(W),
        _bias(b, W), *plan[1:4], groups, y.reshape(len(y), -1),
    )  # fmt: skip
    return batch_major(y)


def noisy_forward(
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    b: numpy.ndarray | None,
    noise: numpy.ndarray,
    threshold: float | None,
    window: Window,
    groups: int,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_convolution_forward``; `noise` may become the residual."""
    x, noise = feature_major(x), numpy.require(feature_major(noise), requirements="W")
    means, variances = posterior(_matrix(theta), _matrix(log_sigma2), threshold)
    plan, image = padded_strips(x, window, theta.shape[1])
    y = _output(x, theta, window)
    blocks, panel, parts = partition(plan, len(theta) // groups, groups)
    _noisy_forward(
        team(parts), parts, blocks, panel, image.reshape(-1),
        multiply(image, image).reshape(-1), means, variances, _bias(b, theta),
        *plan[1:4], groups, noise.reshape(len(y), -1), y.reshape(len(y), -1),
    )  # fmt: skip
    return batch_major(y), batch_major(noise)


def backward(
    gy: numpy.ndarray,
    x: numpy.ndarray,
    W: numpy.ndarray,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.convolution_backward``."""
    gy, x = feature_major(gy), feature_major(x)
    plan, image = padded_strips(x, window, W.shape[1])
    gW = weight_gradient(gy, image, plan, W, groups)
    gb = _sums(gy)
    if not need_x:
        return None, gW, gb
    return batch_major(input_gradient(gy, x, W, window, groups)), gW, gb


def noisy_backward(
    gy: numpy.ndarray,
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    residual: numpy.ndarray,
    threshold: float | None,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_convolution_backward``."""
    gy, x = feature_major(gy), feature_major(x)
    gvariance = multiply(gy, feature_major(residual))
    plan, image = padded_strips(x, window, theta.shape[1])
    gtheta = weight_gradient(gy, image, plan, theta, groups)
    squares = multiply(image, image)
    glog_sigma2 = weight_gradient(gvariance, squares, plan, theta, groups)
    weights = [_matrix(a) for a in (theta, log_sigma2)]
    finish(*weights, threshold, _matrix(gtheta), _matrix(glog_sigma2))
    gb = _sums(gy)
    if not need_x:
        return None, gtheta, glog_sigma2, gb
    gx = noisy_input_gradient(
        gy, gvariance, x, posterior(*weights, threshold), theta.shape, window, groups
    )
    return batch_major(gx), gtheta, glog_sigma2, gb


def _matrix(W: numpy.ndarray) -> numpy.ndarray:
    return W.reshape(len(W), -1)


def _bias(b: numpy.ndarray | None, W: numpy.ndarray) -> numpy.ndarray:
    return numpy.zeros(len(W), W.dtype) if b is None else b


def _sums(gy: numpy.ndarray) -> numpy.ndarray:
    return gy.reshape(len(gy), -1).sum(axis=1)


def _output(x: numpy.ndarray, W: numpy.ndarray, window: Window) -> numpy.ndarray:
    positions = window.positions(x.shape[1:3])
    return empty((len(W), *positions, x.shape[3]), numpy.float32)


@jit()
def _forward(
    board, parts, blocks, panel, image, W, b, rows, starts, length, groups, y
):  # fmt: skip
    arguments = (blocks, panel, image, W, b, rows, starts, length, groups, y)
    parallel_for(board, parts, _forward_part, arguments)


@jit()
def _forward_part(
    blocks, panel, image, W, b, rows, starts, length, groups, y, part
):  # fmt: skip
    height, plane = len(W) // groups, image.size // groups
    group, top, bottom, first, last = bounds(
        part, blocks, panel, groups, height, len(starts)
    )
    for strip in range(first, last):
        left = strip * length
        target = y[top:bottom, left : left + length]
        start = group * plane + starts[strip]
        scattered_product(W[top:bottom, 0:], image, start, rows, target)
        for row in range(bottom - top):
            outputs, shift = y[top + row, left : left + length], b[top + row]
            for j in range(outputs.size):
                outputs[j] += shift


@jit()
def _noisy_forward(
    board, parts, blocks, panel, image, squares, means, variances, b, rows, starts,
    length, groups, noise, y,
):  # fmt: skip
    arguments = (
        blocks, panel, image, squares, means, variances, b, rows, starts, length,
        groups, noise, y,
    )  # fmt: skip
    parallel_for(board, parts, _noisy_forward_part, arguments)


@jit()
def _noisy_forward_part(
    blocks, panel, image, squares, means, variances, b, rows, starts, length, groups,
    noise, y, part,
):  # fmt: skip
    height, plane = len(means) // groups, image.size // groups
    group, top, bottom, first, last = bounds(
        part, blocks, panel, groups, height, len(starts)
    )
    total = numpy.empty((bottom - top, length), numpy.float32)
    for strip in range(first, last):
        left = strip * length
        target = y[top:bottom, left : left + length]
        start = group * plane + starts[strip]
        scattered_product(means[top:bottom, 0:], image, start, rows, target)
        scattered_product(variances[top:bottom, 0:], squares, start, rows, total[:, 0:])
        for row in range(bottom - top):
            mean, variance = y[top + row, left : left + length], total[row]
            shift = b[top + row]
            draws = noise[top + row, left : left + length]
            for j in range(mean.size):
                std = math.sqrt(variance[j] + EPS)
                mean[j] += std * draws[j] + shift
                draws[j] *= HALF / std
