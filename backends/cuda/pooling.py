"""Pooling of images with their channels last."""

from __future__ import annotations

import functools
import itertools

import cupy
import numpy

from vdcore.backends.cuda.arguments import DIVISOR, divisor, structure
from vdcore.backends.cuda.layout import channels_first, channels_last
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.windows import Pair, Window

_GEOMETRY = numpy.dtype(
    [
        (name, numpy.int32)
        for name in (
            "height width channels out_height out_width rows columns stride_y stride_x "
            "pad_y pad_x dilate_y dilate_x"
        ).split()
    ]
    + [
        (name, DIVISOR)
        for name in (
            "of_channels of_width of_height of_out_width of_out_height steps_y steps_x"
        ).split()
    ],
    align=True,
)
_kernels = Module("pooling")


def max_pooling_forward(
    x: cupy.ndarray, window: Window, cover_all: bool
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.max_pooling_forward``."""
    x = channels_last(x)
    y = _result(x, window, cover_all)
    places = cupy.empty(y.shape, cupy.int32)
    geometry = _geometry(x.shape, y.shape, window)
    _kernels.launch("max_forward", blocks_for(y.size), x, geometry, y.size, y, places)
    return channels_first(y), channels_first(places)


def max_pooling_backward(
    gy: cupy.ndarray, places: cupy.ndarray, window: Window, shape: Pair
) -> cupy.ndarray:
    """As ``kernels.max_pooling_backward``."""
    gy, places = channels_last(gy), channels_last(places)
    gx, geometry = _gradient(gy, window, shape)
    arguments = (gy, places, geometry, gx.size, gx)
    _kernels.launch("max_backward", blocks_for(gx.size), *arguments)
    return channels_first(gx)


def average_pooling_forward(x: cupy.ndarray, window: Window) -> cupy.ndarray:
    """As ``kernels.average_pooling_forward``."""
    x = channels_last(x)
    y = _result(x, window, cover_all=False)
    geometry = _geometry(x.shape, y.shape, window)
    _kernels.launch("average_forward", blocks_for(y.size), x, geometry, y.size, y)
    return channels_first(y)


def average_pooling_backward(
    gy: cupy.ndarray, window: Window, shape: Pair
) -> cupy.ndarray:
    """As ``kernels.average_pooling_backward``."""
    gy = channels_last(gy)
    gx, geometry = _gradient(gy, window, shape)
    arguments = (gy, geometry, gx.size, gx)
    _kernels.launch("average_backward", blocks_for(gx.size), *arguments)
    return channels_first(gx)


def _result(x: cupy.ndarray, window: Window, cover_all: bool) -> cupy.ndarray:
    batch, height, width, channels = x.shape
    positions = window.positions((height, width), cover_all=cover_all)
    return cupy.empty((batch, *positions, channels), x.dtype)


def _gradient(
    gy: cupy.ndarray, window: Window, shape: Pair
) -> tuple[cupy.ndarray, numpy.ndarray]:
    gx = cupy.empty((gy.shape[0], *shape, gy.shape[3]), gy.dtype)
    return gx, _geometry(gx.shape, gy.shape, window)


@functools.lru_cache(maxsize=1024)
def _geometry(
    shape: tuple[int, ...], out_shape: tuple[int, ...], window: Window
) -> numpy.ndarray:
    _, height, width, channels = shape
    positions = out_shape[1:3]
    numbers = (height, width, channels, *positions, *itertools.chain(*window))
    divisors = (channels, width, height, *reversed(positions), *window.stride)
    return structure(_GEOMETRY, (*numbers, *map(divisor, divisors)))
