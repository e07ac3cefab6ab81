"""Compiled convolution, plain and noisy, in blocks of channels and strips of pixels.

Images are feature-major; see :mod:`vdcore.backends.cpu.images`. The gradient by the
input is a convolution too: of the gradient by the output, spread out by the stride and
padded, with kernels turned round.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.dots import LINES, add_dots
from vdcore.backends.cpu.elementwise import EPS, HALF, f
from vdcore.backends.cpu.images import (
    COLUMNS,
    Strips,
    multiply,
    padded_strips,
    planned,
    spread,
)
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import batch_major, feature_major
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.posterior import finish_gradients, limit, posterior
from vdcore.backends.cpu.product import LANES, ROWS, scattered_product
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.windows import Window

MIN_BATCH = LANES  # smaller batches are left to NumPy
SIDE_BY_SIDE = 8  # input channels whose kernels are turned round together
u = numpy.uint64  # an index that might be negative costs a test each time
BLOCKS = 3  # blocks of rows of the weights' gradient that share a strip
PARTS = 16  # of a weights' gradient, at least, if it has so many weights


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
    y = _output(plan, x, W, window)
    blocks, panel, parts = _partition(plan, len(W) // groups, groups)
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
    y = _output(plan, x, theta, window)
    blocks, panel, parts = _partition(plan, len(theta) // groups, groups)
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
    gW = _weight_gradient(gy, image, plan, W, groups)
    gb = _sums(gy)
    if not need_x:
        return None, gW, gb
    gx = empty_like(x)
    plan, spans, slopes = _turned_round(gy, x, window, W, groups)
    blocks, panel, parts = _partition(plan, W.shape[1], groups)
    _input_gradient(
        team(parts), parts, blocks, panel, slopes.reshape(-1), turned(W, groups),
        *plan[1:4], spans, groups, gx.reshape(len(gx), -1),
    )  # fmt: skip
    return batch_major(gx), gW, gb


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
    gtheta = _weight_gradient(gy, image, plan, theta, groups)
    squares = multiply(image, image)
    glog_sigma2 = _weight_gradient(gvariance, squares, plan, theta, groups)
    weights = [_matrix(a) for a in (theta, log_sigma2)]
    _finish(
        team(len(theta)), *weights, limit(threshold), _matrix(gtheta),
        _matrix(glog_sigma2),
    )  # fmt: skip
    gb = _sums(gy)
    if not need_x:
        return None, gtheta, glog_sigma2, gb
    means, variances = (
        turned(a.reshape(theta.shape), groups) for a in posterior(*weights, threshold)
    )
    gx = empty_like(x)
    plan, spans, slopes = _turned_round(gy, x, window, theta, groups)
    _, _, variance_slopes = _turned_round(gvariance, x, window, theta, groups)
    blocks, panel, parts = _partition(plan, theta.shape[1], groups)
    _noisy_input_gradient(
        team(parts), parts, blocks, panel, slopes.reshape(-1),
        variance_slopes.reshape(-1), means, variances, *plan[1:4], spans, groups,
        x.reshape(len(x), -1), gx.reshape(len(gx), -1),
    )  # fmt: skip
    return batch_major(gx), gtheta, glog_sigma2, gb


def _matrix(W: numpy.ndarray) -> numpy.ndarray:
    return W.reshape(len(W), -1)


def _bias(b: numpy.ndarray | None, W: numpy.ndarray) -> numpy.ndarray:
    return numpy.zeros(len(W), W.dtype) if b is None else b


def _sums(gy: numpy.ndarray) -> numpy.ndarray:
    return gy.reshape(len(gy), -1).sum(axis=1)


def _turned_round(
    gy: numpy.ndarray, x: numpy.ndarray, window: Window, W: numpy.ndarray, groups: int
) -> tuple[Strips, numpy.ndarray, numpy.ndarray]:
    """The same for the convolution that yields the gradient by the input.

    Its weights are ordered by the row of the kernel first. `spans`, shape (strips, 2),
    says which of them meet more than padding.
    """
    _, height, width, batch = x.shape
    (top, left), (rows, columns) = window.pad, window.extent
    moved = Window(window.size, dilate=window.dilate)
    channels = len(W) // groups
    plan = planned(moved, channels, (height, width), batch)
    first = (rows - 1 - top, columns - 1 - left)
    slopes = spread(gy, plan.size, first, window.stride)
    by_row = plan.rows.reshape(channels, *window.size).transpose(1, 0, 2).reshape(-1)
    reached = numpy.arange(window.size[0]) * window.dilate[0]
    last = first[0] + (gy.shape[1] - 1) * window.stride[0]
    line = plan.lines[:, None] + reached
    met = numpy.stack([(line < first[0]).sum(1), (line <= last).sum(1)], axis=1)
    spans = met * (channels * window.size[1])
    return plan._replace(rows=by_row), spans, slopes


def turned(W: numpy.ndarray, groups: int) -> numpy.ndarray:
    """Kernels turned round, one row for each input channel.

    Returns
    -------
    array, shape (in_channels, rows * out_channels / groups * columns)
        In this order: row of the turned kernel, output channel of the group, column.
    """
    height, width = W.shape[2:]
    outputs = len(W) // groups
    result = empty((groups * W.shape[1], W[0, 0].size * outputs), W.dtype)
    row, column = numpy.divmod(numpy.arange(height * width)[::-1], width)
    places = row * outputs * width + column
    parts = -(-len(result) // SIDE_BY_SIDE)
    _turn(team(parts), parts, _matrix(W), W.shape[1], places, width, result)
    return result


@jit()
def _turn(board, parts, W, channels, places, width, result):
    parallel_for(board, parts, _turn_channels, (W, channels, places, width, result))


@jit()
def _turn_channels(W, channels, places, width, result, part):
    first = part * SIDE_BY_SIDE
    outputs = result.shape[1] // places.size
    for o in range(outputs):
        for channel in range(first, min(first + SIDE_BY_SIDE, len(result))):
            group, source = channel // channels, channel % channels
            left = source * places.size
            kernel = W[group * outputs + o, left : left + places.size]
            target = result[channel]
            for k in range(places.size):
                target[u(places[k] + o * width)] = kernel[k]


def _output(
    plan: Strips, x: numpy.ndarray, W: numpy.ndarray, window: Window
) -> numpy.ndarray:
    positions = window.positions(x.shape[1:3])
    return empty((len(W), *positions, x.shape[3]), numpy.float32)


def _partition(plan: Strips, height: int, groups: int) -> tuple[int, int, int]:
    """Blocks of channels in a group, strips in a panel, and parts of the work.

    `height` is the number of output channels of a group.
    """
    blocks = -(-height // ROWS)
    panel = max(1, COLUMNS // 2 // plan.length)
    panels = -(-len(plan.starts) // panel)
    return blocks, panel, panels * blocks * groups


@jit()
def _bounds(part, blocks, panel, groups, height, count):
    """Group, first and last row, first and last strip of one part."""
    block = part % (blocks * groups)
    group, block = block // blocks, block % blocks
    top = group * height + block * ROWS
    first = part // (blocks * groups) * panel
    bottom = min(top + ROWS, (group + 1) * height)
    return group, top, bottom, first, min(first + panel, count)


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
    group, top, bottom, first, last = _bounds(
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
    group, top, bottom, first, last = _bounds(
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


@jit()
def _input_gradient(
    board, parts, blocks, panel, slopes, W, rows, starts, length, spans, groups, gx
):  # fmt: skip
    arguments = (blocks, panel, slopes, W, rows, starts, length, spans, groups, gx)
    parallel_for(board, parts, _input_gradient_part, arguments)


@jit()
def _input_gradient_part(
    blocks, panel, slopes, W, rows, starts, length, spans, groups, gx, part
):  # fmt: skip
    height, plane = len(W) // groups, slopes.size // groups
    group, top, bottom, first, last = _bounds(
        part, blocks, panel, groups, height, len(starts)
    )
    for strip in range(first, last):
        left, start = strip * length, group * plane + starts[strip]
        target = gx[top:bottom, left : left + length]
        low, high = spans[strip, 0], spans[strip, 1]
        if low < high:
            weights = W[top:bottom, low:high]
            scattered_product(weights, slopes, start, rows[low:high], target)
        else:
            target[:] = f(0)


@jit()
def _noisy_input_gradient(
    board, parts, blocks, panel, slopes, variance_slopes, means, variances, rows,
    starts, length, spans, groups, x, gx,
):  # fmt: skip
    arguments = (
        blocks, panel, slopes, variance_slopes, means, variances, rows, starts, length,
        spans, groups, x, gx,
    )  # fmt: skip
    parallel_for(board, parts, _noisy_input_gradient_part, arguments)


@jit()
def _noisy_input_gradient_part(
    blocks, panel, slopes, variance_slopes, means, variances, rows, starts, length,
    spans, groups, x, gx, part,
):  # fmt: skip
    height, plane = len(means) // groups, slopes.size // groups
    group, top, bottom, first, last = _bounds(
        part, blocks, panel, groups, height, len(starts)
    )
    total = numpy.empty((bottom - top, length), numpy.float32)
    for strip in range(first, last):
        left, start = strip * length, group * plane + starts[strip]
        target = gx[top:bottom, left : left + length]
        low, high = spans[strip, 0], spans[strip, 1]
        if low >= high:
            target[:] = f(0)
            continue
        places = rows[low:high]
        scattered_product(means[top:bottom, low:high], slopes, start, places, target)
        scattered_product(
            variances[top:bottom, low:high],
            variance_slopes,
            start,
            places,
            total[:, 0:],
        )
        for row in range(bottom - top):
            by_mean, by_variance = gx[top + row, left : left + length], total[row]
            values = x[top + row, left : left + length]
            for j in range(by_mean.size):
                by_mean[j] += f(2) * values[j] * by_variance[j]


def _weight_gradient(
    gy: numpy.ndarray, image: numpy.ndarray, plan: Strips, W: numpy.ndarray, groups: int
) -> numpy.ndarray:
    """Gradient by the weights, from that by the outputs and the padded input."""
    gW = empty_like(W)
    height = len(W) // groups
    stacks = -(-height // (ROWS * BLOCKS))
    lines = -(-plan.rows.size // LINES)
    shares = min(lines, -(-PARTS // (stacks * groups)))
    parts = stacks * groups * shares
    chunk = max(1, COLUMNS // plan.length)
    _add_weight_gradient(
        team(parts), parts, stacks, shares, chunk, gy.reshape(-1), image.reshape(-1),
        plan.rows, plan.starts, plan.length, groups, _matrix(gW),
    )  # fmt: skip
    return gW


@jit()
def _add_weight_gradient(
    board, parts, stacks, shares, chunk, gy, image, rows, starts, length, groups, gW
):  # fmt: skip
    arguments = (
        stacks, shares, chunk, gy, image, rows, starts, length, groups, gW,
    )  # fmt: skip
    parallel_for(board, parts, _weight_gradient_part, arguments)


@jit()
def _weight_gradient_part(
    stacks, shares, chunk, gy, image, rows, starts, length, groups, gW, part
):  # fmt: skip
    share, stack = part % shares, part // shares
    group, stack = stack // stacks, stack % stacks
    height, plane = len(gW) // groups, image.size // groups
    pitch = gy.size // len(gW)
    lines = (rows.size + LINES - 1) // LINES
    left = share * lines // shares * LINES
    right = min((share + 1) * lines // shares * LINES, rows.size)
    top = group * height + stack * ROWS * BLOCKS
    bottom = min(top + ROWS * BLOCKS, (group + 1) * height)
    channel = image[group * plane : (group + 1) * plane]
    gW[top:bottom, left:right] = f(0)
    for first in range(0, len(starts), chunk):
        last = min(first + chunk, len(starts))
        for row in range(top, bottom, ROWS):
            count = min(ROWS, bottom - row)
            for k in range(left, right, LINES):
                add_dots(
                    gy, row * pitch, pitch, count, channel, rows, k,
                    min(LINES, right - k), starts, first, last, length, gW, row, k,
                )  # fmt: skip


@jit()
def _finish(board, theta, log_sigma2, threshold, by_theta, by_variance):
    arguments = (theta, log_sigma2, threshold, by_theta, by_variance)
    parallel_for(board, len(theta), _finish_row, arguments)


@jit()
def _finish_row(theta, log_sigma2, threshold, by_theta, by_variance, row):
    finish_gradients(
        theta[row], log_sigma2[row], threshold, by_theta[row], by_variance[row]
    )
