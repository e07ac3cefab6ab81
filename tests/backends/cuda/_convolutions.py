"""Convolutions of every kind that layers may have."""

from __future__ import annotations

from typing import NamedTuple

from vdcore.windows import Window


class Case(NamedTuple):
    """Images (batch, height, width, channels), and what meets them."""

    images: tuple[int, ...]
    outputs: int
    window: Window
    groups: int = 1


# Of products and weights there are multiples of 4, as cuDNN takes two powers of images;
# of images there may be other numbers.
CASES = [
    Case((2, 5, 7, 3), 4, Window((3, 3))),
    Case((3, 5, 5, 1), 8, Window((5, 5))),
    Case((1, 3, 3, 1), 4, Window((2, 2))),
    Case((2, 6, 9, 5), 12, Window((3, 2), (2, 1), (1, 0), (1, 2))),
    Case((4, 8, 8, 6), 4, Window((3, 3), (1, 1), (2, 2), (2, 2)), 2),
    Case((2, 7, 5, 8), 8, Window((3, 3), (2, 3), (1, 1)), 8),
    Case((2, 4, 6, 12), 8, Window((1, 1))),
    Case((4, 9, 9, 6), 6, Window((1, 1), (3, 2)), 3),
    Case((2, 1, 30, 2), 2, Window((1, 5), (1, 1), (0, 2))),
    Case((2, 2, 2, 4), 4, Window((1, 1), pad=(1, 1))),
    Case((3, 6, 6, 4), 4, Window((3, 3), (2, 2))),
]
# And where there are not.
ODD = Case((1, 3, 3, 3), 3, Window((3, 2)))
