"""What a window meets in a batch of images, gathered into columns and back."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.windows import Pair, Window


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
    around = [
        (before, max(reached - before - size, 0))
        for before, reached, size in zip(
            window.pad, _reached(window, positions), x.shape[2:], strict=True
        )
    ]
    return surrounded(x, ((0, 0), (0, 0), *around), fill)


def surrounded(x: Array, widths: tuple[tuple[int, int], ...], fill: float) -> Array:
    """Add elements around an array: so many before and after, axis by axis."""
    xp = array_namespace(x)
    for axis, (before, after) in enumerate(widths):
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
