"""Pooling of feature-major float32 images, one channel at a time.

A window meets runs of examples, which lie side by side (see
:mod:`vdcore.backends.cpu.layout`), so that each of its elements is one vector
operation.

Loops index whole arrays: a slice counts references to its array, and threads that count
those of one array at once wait for each other.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.layout import batch_major, feature_major, parts_of
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.windows import Pair, Window


def max_pooling_forward(
    x: numpy.ndarray, window: Window, cover_all: bool
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.max_pooling_forward``; places take a byte each if they can."""
    positions = window.positions(x.shape[2:], cover_all=cover_all)
    x = feature_major(x)
    shape = (len(x), *positions, x.shape[3])
    y = empty(shape, x.dtype)
    small = math.prod(window.size) <= 256
    places = empty(shape, numpy.uint8 if small else numpy.int32)
    parts = parts_of(x)
    _max_forward(team(parts), parts, x, *window[:3], y, places)
    return batch_major(y), batch_major(places)


def max_pooling_backward(
    gy: numpy.ndarray, places: numpy.ndarray, window: Window, shape: Pair
) -> numpy.ndarray:
    """As ``kernels.max_pooling_backward``."""
    gy, places = feature_major(gy), feature_major(places)
    gx = empty((len(gy), *shape, gy.shape[3]), gy.dtype)
    parts = parts_of(gx)
    _max_backward(team(parts), parts, gy, places, *window[:3], gx)
    return batch_major(gx)


def average_pooling_forward(x: numpy.ndarray, window: Window) -> numpy.ndarray:
    """As ``kernels.average_pooling_forward``."""
    positions = window.positions(x.shape[2:])
    x = feature_major(x)
    y = empty((len(x), *positions, x.shape[3]), x.dtype)
    parts = parts_of(x)
    _average_forward(team(parts), parts, x, *window[:3], y)
    return batch_major(y)


def average_pooling_backward(
    gy: numpy.ndarray, window: Window, shape: Pair
) -> numpy.ndarray:
    """As ``kernels.average_pooling_backward``."""
    gy = feature_major(gy)
    gx = empty((len(gy), *shape, gy.shape[3]), gy.dtype)
    parts = parts_of(gx)
    _average_backward(team(parts), parts, gy, *window[:3], gx)
    return batch_major(gx)


@jit()
def _bounds(part, parts, channels):
    """Channels of a part: the first, and the end."""
    return part * channels // parts, (part + 1) * channels // parts


@jit()
def _met(position, size, stride, pad, length):
    """Where a window begins, and the first pixel and the end of those it meets."""
    start = position * stride - pad
    return start, max(start, 0), min(start + size, length)


@jit()
def _max_forward(board, parts, x, size, stride, pad, y, places):
    arguments = (parts, x, size, stride, pad, y, places)
    parallel_for(board, parts, _max_forward_part, arguments)


@jit()
def _max_forward_part(parts, x, size, stride, pad, y, places, part):
    first, end = _bounds(part, parts, len(x))
    for channel in range(first, end):
        for i in range(y.shape[1]):
            top, row, bottom = _met(i, size[0], stride[0], pad[0], x.shape[1])
            for j in range(y.shape[2]):
                left, column, right = _met(j, size[1], stride[1], pad[1], x.shape[2])
                if size == (2, 2) and bottom - row == 2 and right - column == 2:
                    _max_of_four(x, channel, row, column, y, places, i, j)
                    continue
                k = (row - top) * size[1] + column - left
                _copy(x, channel, row, column, k, y, places, i, j)
                for r in range(row, bottom):
                    for c in range(column, right):
                        k = (r - top) * size[1] + c - left
                        _raise(x, channel, r, c, k, y, places, i, j)


@jit()
def _copy(x, channel, row, column, k, y, places, i, j):
    k = places.dtype.type(k)
    for b in range(x.shape[3]):
        y[channel, i, j, b] = x[channel, row, column, b]
        places[channel, i, j, b] = k


@jit()
def _raise(x, channel, row, column, k, y, places, i, j):
    k = places.dtype.type(k)
    for b in range(x.shape[3]):
        best, place = y[channel, i, j, b], places[channel, i, j, b]
        value = x[channel, row, column, b]
        higher = (value > best) | (value != value)
        y[channel, i, j, b] = value if higher else best
        places[channel, i, j, b] = k if higher else place


@jit()
def _max_of_four(x, channel, row, column, y, places, i, j):
    """The most common window, with what is best so far in registers."""
    one, two = places.dtype.type(1), places.dtype.type(2)
    three = places.dtype.type(3)
    for b in range(x.shape[3]):
        best, place = x[channel, row, column, b], places.dtype.type(0)
        value = x[channel, row, column + 1, b]
        higher = (value > best) | (value != value)
        best, place = (value, one) if higher else (best, place)
        value = x[channel, row + 1, column, b]
        higher = (value > best) | (value != value)
        best, place = (value, two) if higher else (best, place)
        value = x[channel, row + 1, column + 1, b]
        higher = (value > best) | (value != value)
        best, place = (value, three) if higher else (best, place)
        y[channel, i, j, b] = best
        places[channel, i, j, b] = place


@jit()
def _max_backward(board, parts, gy, places, size, stride, pad, gx):
    arguments = (parts, gy, places, size, stride, pad, gx)
    parallel_for(board, parts, _max_backward_part, arguments)


@jit()
def _max_backward_part(parts, gy, places, size, stride, pad, gx, part):
    first, end = _bounds(part, parts, len(gx))
    overlapping = size[0] > stride[0] or size[1] > stride[1]
    tiled = _tiled(size, stride, pad, gy, gx)
    for channel in range(first, end):
        if not tiled:
            _clear(gx, channel)
        for i in range(gy.shape[1]):
            top, row, bottom = _met(i, size[0], stride[0], pad[0], gx.shape[1])
            for j in range(gy.shape[2]):
                left, column, right = _met(j, size[1], stride[1], pad[1], gx.shape[2])
                whole = bottom - row == 2 and right - column == 2
                if size == (2, 2) and whole and not overlapping:
                    _set_four(gy, places, channel, i, j, gx, row, column)
                    continue
                for r in range(row, bottom):
                    for c in range(column, right):
                        k = places.dtype.type((r - top) * size[1] + c - left)
                        if overlapping:
                            _add_where(gy, places, channel, i, j, k, gx, r, c)
                        else:
                            _set_where(gy, places, channel, i, j, k, gx, r, c)


@jit()
def _set_four(gy, places, channel, i, j, gx, row, column):
    """The most common window, whose slopes and places are read once."""
    zero, one = places.dtype.type(0), places.dtype.type(1)
    two, three = places.dtype.type(2), places.dtype.type(3)
    for b in range(gx.shape[3]):
        slope, place = gy[channel, i, j, b], places[channel, i, j, b]
        gx[channel, row, column, b] = slope if place == zero else f(0)
        gx[channel, row, column + 1, b] = slope if place == one else f(0)
        gx[channel, row + 1, column, b] = slope if place == two else f(0)
        gx[channel, row + 1, column + 1, b] = slope if place == three else f(0)


@jit()
def _set_where(gy, places, channel, i, j, k, gx, row, column):
    for b in range(gx.shape[3]):
        slope, place = gy[channel, i, j, b], places[channel, i, j, b]
        gx[channel, row, column, b] = slope if place == k else f(0)


@jit()
def _add_where(gy, places, channel, i, j, k, gx, row, column):
    for b in range(gx.shape[3]):
        slope, place = gy[channel, i, j, b], places[channel, i, j, b]
        gx[channel, row, column, b] += slope if place == k else f(0)


@jit()
def _average_forward(board, parts, x, size, stride, pad, y):
    arguments = (parts, x, size, stride, pad, y)
    parallel_for(board, parts, _average_forward_part, arguments)


@jit()
def _average_forward_part(parts, x, size, stride, pad, y, part):
    first, end = _bounds(part, parts, len(x))
    share = f(1) / f(size[0] * size[1])
    for channel in range(first, end):
        for i in range(y.shape[1]):
            _, row, bottom = _met(i, size[0], stride[0], pad[0], x.shape[1])
            for j in range(y.shape[2]):
                _, column, right = _met(j, size[1], stride[1], pad[1], x.shape[2])
                for b in range(x.shape[3]):
                    y[channel, i, j, b] = f(0)
                for r in range(row, bottom):
                    for c in range(column, right):
                        for b in range(x.shape[3]):
                            y[channel, i, j, b] += x[channel, r, c, b] * share


@jit()
def _average_backward(board, parts, gy, size, stride, pad, gx):
    arguments = (parts, gy, size, stride, pad, gx)
    parallel_for(board, parts, _average_backward_part, arguments)


@jit()
def _average_backward_part(parts, gy, size, stride, pad, gx, part):
    first, end = _bounds(part, parts, len(gx))
    share = f(1) / f(size[0] * size[1])
    tiled = _tiled(size, stride, pad, gy, gx)
    for channel in range(first, end):
        if not tiled:
            _clear(gx, channel)
        for i in range(gy.shape[1]):
            _, row, bottom = _met(i, size[0], stride[0], pad[0], gx.shape[1])
            for j in range(gy.shape[2]):
                _, column, right = _met(j, size[1], stride[1], pad[1], gx.shape[2])
                for r in range(row, bottom):
                    for c in range(column, right):
                        if tiled:
                            for b in range(gx.shape[3]):
                                gx[channel, r, c, b] = gy[channel, i, j, b] * share
                        else:
                            for b in range(gx.shape[3]):
                                gx[channel, r, c, b] += gy[channel, i, j, b] * share


@jit()
def _tiled(size, stride, pad, gy, gx):
    """Whether each pixel is within exactly one window."""
    tiled = True
    for axis in range(2):
        tiled &= size[axis] == stride[axis]
        tiled &= gy.shape[1 + axis] * size[axis] >= gx.shape[1 + axis] + pad[axis]
    return tiled


@jit()
def _clear(gx, channel):
    for row in range(gx.shape[1]):
        for column in range(gx.shape[2]):
            for b in range(gx.shape[3]):
                gx[channel, row, column, b] = f(0)
