"""Pooling of images: the largest number, or the mean, of each window."""

from __future__ import annotations

import math

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel
from vdcore.unfolding import padded, unpadded
from vdcore.windows import Pair, Window


@Kernel
def max_pooling_forward(
    x: Array, window: Window, cover_all: bool
) -> tuple[Array, Array]:
    """Largest number of each window, among the pixels that are there.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    window : Window
        Each of its positions meets the image.
    cover_all : bool
        As of :meth:`vdcore.windows.Window.positions`.

    Returns
    -------
    y : array, shape (batch, channels, out_height, out_width)
        NaN where a window holds one.
    places : array of integers, same shape
        Which element of the window, row by row, is the largest: the first of equals.
        All that the backward pass needs.
    """
    xp = array_namespace(x)
    positions = window.positions(x.shape[2:], cover_all=cover_all)
    image = padded(x, window, positions, fill=-math.inf)
    y = xp.full((*x.shape[:2], *positions), -math.inf, dtype=x.dtype)
    places = xp.zeros(tuple(y.shape), dtype=xp.int32)
    for k, (rows, columns) in enumerate(window.elements(positions)):
        met = image[:, :, rows, columns]
        higher = (met > y) | (met != met)  # a NaN is not hidden by what follows
        y = xp.where(higher, met, y)
        places = xp.where(higher, xp.full_like(places, k), places)
    return y, places


@Kernel
def max_pooling_backward(
    gy: Array, places: Array, window: Window, shape: Pair
) -> Array:
    """Gradient of :func:`max_pooling_forward` by x; `shape` is that of its images."""
    xp = array_namespace(gy, places)
    slopes = (
        xp.where(places == k, gy, xp.zeros_like(gy)) for k in range(_size(window))
    )
    return _spread(slopes, gy, window, shape)


@Kernel
def average_pooling_forward(x: Array, window: Window) -> Array:
    """Mean of each window, in which padding counts as zeros.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    window : Window

    Returns
    -------
    array, shape (batch, channels, out_height, out_width)
    """
    positions = window.positions(x.shape[2:])
    image = padded(x, window, positions)
    elements = window.elements(positions)
    total = sum(image[:, :, rows, columns] for rows, columns in elements)
    return total / _size(window)


@Kernel
def average_pooling_backward(gy: Array, window: Window, shape: Pair) -> Array:
    """Gradient of :func:`average_pooling_forward` by x, images of this `shape`."""
    count = _size(window)
    share = gy / count
    return _spread((share for _ in range(count)), gy, window, shape)


def _size(window: Window) -> int:
    return math.prod(window.size)


def _spread(slopes, gy: Array, window: Window, shape: Pair) -> Array:
    """Sum at each pixel the slopes of the window's elements that met it."""
    xp = array_namespace(gy)
    positions = tuple(gy.shape[2:])
    pixels = xp.zeros((*gy.shape[:2], *shape), dtype=gy.dtype)
    image = padded(pixels, window, positions)
    elements = window.elements(positions)
    for (rows, columns), slope in zip(elements, slopes, strict=True):
        image[:, :, rows, columns] += slope
    return unpadded(image, window, shape)
