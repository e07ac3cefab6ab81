"""Windows that move over images: those of convolution and of pooling.

A saved sparse model uses them too, where no array library but NumPy is: nothing here
may need one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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
