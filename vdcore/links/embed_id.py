"""A vector for each word, or anything else that has a number."""

from __future__ import annotations

from typing import Any

from vdcore import functions as F
from vdcore import initializers
from vdcore.arrays import Array
from vdcore.links.weighted import WeightedLink


class EmbedID(WeightedLink):
    """Table of vectors, looked up by integers.

    Parameters
    ----------
    in_size : int
        Number of words.
    out_size : int
        Length of a vector.
    initialW : Initializer, number or numpy.ndarray, optional
        Default N(0, 1), as in Chainer.

    Attributes
    ----------
    W : Parameter, shape (in_size, out_size)
    """

    def __init__(self, in_size: int, out_size: int, initialW: Any = None) -> None:
        super().__init__()
        self.in_size = self._check_size("in_size", in_size)
        self.out_size = self._check_size("out_size", out_size)
        initialW = initializers.get_initializer(initialW, initializers.Normal(1.0))
        self._setup_weights(out_size, True, initialW, None)
        self.W.initialize((in_size, out_size))

    def forward(self, ids: Array) -> Array:
        """Vectors of integers of any shape: shape (*ids.shape, out_size)."""
        return F.embed_id(ids, self.W.array)
