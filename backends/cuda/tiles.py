"""How matrices are divided between blocks of threads that go down their columns."""

from __future__ import annotations

from typing import NamedTuple

WARP = 32  # columns of a tile
LEAST_ROWS = 32  # of a tile
TILES = 1024  # about as many as a large GPU has room for at a time


class Tiles(NamedTuple):
    """Tiles of a matrix: bands of rows, each divided across by columns.

    Attributes
    ----------
    rows, columns : int
        Of the matrix.
    height : int
        Rows of a tile; the last band may have less.
    bands, across : int
        How many tiles there are in each direction.
    """

    rows: int
    columns: int
    height: int
    bands: int
    across: int

    @property
    def blocks(self) -> int:
        """How many tiles there are: each is a block's."""
        return self.bands * self.across


def tiles_of(rows: int, columns: int) -> Tiles:
    """As many tiles as keep a GPU busy, but not smaller than pays."""
    across = -(-columns // WARP)
    bands = min(-(-rows // LEAST_ROWS), -(-TILES // across))
    height = -(-rows // bands)
    return Tiles(rows, columns, height, -(-rows // height), across)
