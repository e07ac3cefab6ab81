"""Gradient of a convolution by its input.

It is a convolution too: of the gradient by the output, spread out by the stride and
padded, with kernels turned round.
"""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.images import Strips, planned, spread
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.partition import bounds, partition
from vdcore.backends.cpu.product import scattered_product
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.windows import Window

SIDE_BY_SIDE = 8  # input channels whose kernels are turned round together

u = numpy.uint64  # an index that might be negative costs a test each time


def input_gradient(
    gy: numpy.ndarray, x: numpy.ndarray, W: numpy.ndarray, window: Window, groups: int
) -> numpy.ndarray:
    """Gradient of a plain convolution; all images are feature-major."""
    gx = empty_like(x)
    plan, spans, slopes = _turned_round(gy, x, window, len(W), groups)
    blocks, panel, parts = partition(plan, W.shape[1], groups)
    _share_input_gradient(
        team(parts), parts, blocks, panel, slopes.reshape(-1), turned(W, groups),
        *plan[1:4], spans, groups, gx.reshape(len(gx), -1),
    )  # fmt: skip
    return gx


def noisy_input_gradient(
    gy: numpy.ndarray,
    gvariance: numpy.ndarray,
    x: numpy.ndarray,
    posterior: tuple[numpy.ndarray, numpy.ndarray],
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> numpy.ndarray:
    """Gradient of a noisy convolution whose weights have means and variances.

    `gvariance` is the gradient by the variances of the outputs, `shape` that of the
    weights.
    """
    means, variances = (turned(a.reshape(shape), groups) for a in posterior)
    gx = empty_like(x)
    plan, spans, slopes = _turned_round(gy, x, window, shape[0], groups)
    _, _, variance_slopes = _turned_round(gvariance, x, window, shape[0], groups)
    blocks, panel, parts = partition(plan, shape[1], groups)
    _share_noisy_input_gradient(
        team(parts), parts, blocks, panel, slopes.reshape(-1),
        variance_slopes.reshape(-1), means, variances, *plan[1:4], spans, groups,
        x.reshape(len(x), -1), gx.reshape(len(gx), -1),
    )  # fmt: skip
    return gx


def _turned_round(
    gy: numpy.ndarray, x: numpy.ndarray, window: Window, outputs: int, groups: int
) -> tuple[Strips, numpy.ndarray, numpy.ndarray]:
    """The same for the convolution that yields the gradient by the input.

    Its weights are ordered by the row of the kernel first. `spans`, shape (strips, 2),
    says which of them meet more than padding.
    """
    _, height, width, batch = x.shape
    (top, left), (rows, columns) = window.pad, window.extent
    moved = Window(window.size, dilate=window.dilate)
    channels = outputs // groups
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
    _turn(team(parts), parts, W.reshape(len(W), -1), W.shape[1], places, width, result)
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


@jit()
def _share_input_gradient(
    board, parts, blocks, panel, slopes, W, rows, starts, length, spans, groups, gx
):  # fmt: skip
    arguments = (blocks, panel, slopes, W, rows, starts, length, spans, groups, gx)
    parallel_for(board, parts, _input_gradient_part, arguments)


@jit()
def _input_gradient_part(
    blocks, panel, slopes, W, rows, starts, length, spans, groups, gx, part
):  # fmt: skip
    height, plane = len(W) // groups, slopes.size // groups
    group, top, bottom, first, last = bounds(
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
def _share_noisy_input_gradient(
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
    group, top, bottom, first, last = bounds(
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
