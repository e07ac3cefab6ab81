"""Windows over feature-major images, shape (channels, height, width, batch), by NumPy.

With the examples side by side, what an element of a window meets in a row of an image
lies in one piece.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.sparse.images import Pooling
from vdcore.windows import Pair, Window


def padded(
    h: numpy.ndarray, window: Window, positions: Pair, fill: float = 0
) -> numpy.ndarray:
    """Images with the window's padding, as large as its positions need; or `h`."""
    channels, *shape, batch = h.shape
    size = [
        max(pad + n, (count - 1) * stride + extent)
        for n, count, pad, stride, extent in zip(
            shape, positions, window.pad, window.stride, window.extent, strict=True
        )
    ]
    if size == shape:
        return h
    image = numpy.full((channels, *size, batch), fill, h.dtype)
    (top, left), (height, width) = window.pad, shape
    image[:, top : top + height, left : left + width] = h
    return image


def pool(h: numpy.ndarray, layer: Pooling) -> numpy.ndarray:
    """The largest number, or the mean, of each window."""
    window, is_max = layer.window, layer.kind == "max"
    positions = window.positions(h.shape[1:3], cover_all=layer.cover_all)
    image = padded(h, window, positions, -math.inf if is_max else 0)
    first, *others = (
        image[:, rows, columns] for rows, columns in window.elements(positions)
    )
    y = first.copy()
    combine = numpy.maximum if is_max else numpy.add
    for met in others:
        combine(y, met, out=y)
    if not is_max:
        y /= math.prod(window.size)
    return y


class Unfolding:
    """Gathers what some of the weights of each output channel meet.

    Weights that are pruned in all output channels are not gathered for.

    Parameters
    ----------
    columns : array of int
        Columns of the weights, in rising order; see
        :class:`vdcore.backends.sparse.images.Convolution`.
    window : Window
    positions : pair of int
        How many the window has in an image.

    Attributes
    ----------
    order : array of int
        `columns` in the order that they are gathered in: element by element.
    """

    def __init__(self, columns: numpy.ndarray, window: Window, positions: Pair) -> None:
        channels, elements = numpy.divmod(columns, math.prod(window.size))
        order = numpy.argsort(elements, kind="stable")
        self.order = columns[order]
        self.window = window
        self.positions = positions
        self._pieces = []
        ends = numpy.cumsum(numpy.bincount(elements, minlength=math.prod(window.size)))
        start = 0
        for (rows, columns_), end in zip(window.elements(positions), ends, strict=True):
            if end > start:
                met = channels[order[start:end]]
                self._pieces.append((_selection(met), rows, columns_, start, end))
            start = end

    def __call__(self, h: numpy.ndarray) -> numpy.ndarray:
        """From images to an array of shape (columns, positions * batch)."""
        image = padded(h, self.window, self.positions)
        shape = (len(self.order), *self.positions, h.shape[-1])
        met = numpy.empty(shape, h.dtype)
        for channels, rows, columns, start, end in self._pieces:
            met[start:end] = image[channels, rows, columns]
        return met.reshape(len(met), math.prod(shape[1:]))


def _selection(indices: numpy.ndarray) -> slice | numpy.ndarray:
    """Rising indices, as a slice where it takes the same: that copies nothing."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices
