"""Windows that move over images: those of convolution and of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vdcore.arrays import Array, array_namespace

Pair = tuple[int, int]


class Window(NamedTuple):
    """Size and steps of a window; each a pair of rows and columns.

    Attributes
    ----------
    size : pair of int
    stride : pair of int
        Pixels between one position and the next.
    pad : pair of int
        Pixels added on each side of the image.
    dilate : pair of int
        Pixels between one element of the window and the next.
    """

    size: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilate: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Pixels that the window spans, from its first element to its last."""
        height, width = (
            (size - 1) * dilate + 1
            for size, dilate in zip(self.size, self.dilate, strict=True)
        )
        return height, width

    def positions(self, shape: Pair, *, cover_all: bool = False) -> Pair:
        """How many positions the window has in an image of this shape.

        With `cover_all` every pixel is within one, if need be beyond the padding.
        """
        height, width = (
            (n + 2 * pad - extent + (stride - 1 if cover_all else 0)) // stride + 1
            for n, pad, extent, stride in zip(
                shape, self.pad, self.extent, self.stride, strict=True
            )
        )
        return height, width

    def elements(self, positions: Pair) -> Iterator[tuple[slice, slice]]:
        """For each element, the pixels of the padded image that it meets in turn."""
        for row in range(self.size[0]):
            for column in range(self.size[1]):
                yield (
                    _steps(row * self.dilate[0], positions[0], self.stride[0]),
                    _steps(column * self.dilate[1], positions[1], self.stride[1]),
                )


def _steps(start: int, count: int, stride: int) -> slice:
    return slice(start, start + (count - 1) * stride + 1, stride)


def window(
    operation: str,
    size: Any,
    stride: Any = 1,
    pad: Any = 0,
    dilate: Any = 1,
    *,
    size_name: str = "ksize",
) -> Window:
    """Build a window from an operation's arguments, each an int or a pair of them.

    Raises
    ------
    ValueError
        If one is neither, or too small. The text names the operation and the argument.
    """
    return Window(
        as_pair(operation, size_name, size, 1),
        as_pair(operation, "stride", stride, 1),
        as_pair(operation, "pad", pad, 0),
        as_pair(operation, "dilate", dilate, 1),
    )


def as_pair(operation: str, argument: str, value: Any, least: int) -> Pair:
    """A pair of rows and columns from an int, for both, or a pair.

    Raises
    ------
    ValueError
        If it is neither, or smaller than `least`.
    """
    pair = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or not all(isinstance(n, int) and n >= least for n in pair)
    ):
        message = (
            f"{operation}: `{argument}` must be an integer of at least {least}, or a "
            f"pair of them, got {value!r}"
        )
        raise ValueError(message)
    return pair[0], pair[1]


def padded(x: Array, window: Window, positions: Pair, fill: float = 0) -> Array:
    """Images with the window's padding, as large as its positions need.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    window : Window
    positions : pair of int
    fill : float
        Value of the pixels added.
    """
    xp = array_namespace(x)
    for axis, before, reached in zip(
        (2, 3), window.pad, _reached(window, positions), strict=True
    ):
        after = max(reached - before - x.shape[axis], 0)
        # Joined, not written into: arrays of some libraries cannot be changed.
        strips = []
        for width in (before, after):
            shape = list(x.shape)
            shape[axis] = width
            strips.append(xp.full(tuple(shape), fill, dtype=x.dtype))
        if before or after:
            x = xp.concat([strips[0], x, strips[1]], axis=axis)
    return x


def unpadded(image: Array, window: Window, shape: Pair) -> Array:
    """The pixels of :func:`padded` that are not padding."""
    (top, left), (height, width) = window.pad, shape
    return image[:, :, top : top + height, left : left + width]


def unfold(x: Array, window: Window) -> Array:
    """What each element of the window meets, image by image.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    window : Window

    Returns
    -------
    array, shape (batch, channels, elements, positions)
        Elements and positions row by row; dtype of `x`.
    """
    xp = array_namespace(x)
    batch, channels, height, width = x.shape
    positions = window.positions((height, width))
    image = padded(x, window, positions)
    met = [image[:, :, rows, columns] for rows, columns in window.elements(positions)]
    columns = xp.stack(met, axis=2)
    return xp.reshape(columns, (batch, channels, len(met), -1))


def fold(columns: Array, window: Window, shape: Pair) -> Array:
    """Images of which :func:`unfold` is the transpose: sum what was met at each pixel.

    Parameters
    ----------
    columns : array, shape (batch, channels, elements, positions)
    window : Window
    shape : pair of int
        Height and width of the images.

    Returns
    -------
    array, shape (batch, channels, height, width)
    """
    xp = array_namespace(columns)
    batch, channels = columns.shape[:2]
    positions = window.positions(shape)
    (top, left), reached = window.pad, _reached(window, positions)
    size = (max(shape[0] + top, reached[0]), max(shape[1] + left, reached[1]))
    image = xp.zeros((batch, channels, *size), dtype=columns.dtype)
    met = xp.reshape(columns, (batch, channels, -1, *positions))
    for k, (rows, row_columns) in enumerate(window.elements(positions)):
        image[:, :, rows, row_columns] += met[:, :, k, :, :]
    return unpadded(image, window, shape)


def _reached(window: Window, positions: Pair) -> Pair:
    """Rows and columns of the padded image that some position covers."""
    height, width = (
        (count - 1) * stride + extent
        for count, stride, extent in zip(
            positions, window.stride, window.extent, strict=True
        )
    )
    return height, width
