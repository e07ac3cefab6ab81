"""Fully connected layer."""

from __future__ import annotations

import math
from typing import Any

from vdcore import functions as F
from vdcore.arrays import Array, check_array
from vdcore.links.weighted import WeightedLink


class Linear(WeightedLink):
    """Affine map ``y = x W^T + b``.

    Parameters
    ----------
    in_size : int or None
        Numbers per example. None: taken from the first batch. With one argument only,
        as in Chainer, it is the `out_size`.
    out_size : int
    nobias : bool
        Leave out `b`.
    initialW : Initializer, number or numpy.ndarray, optional
        Default :class:`~vdcore.initializers.LeCunNormal`.
    initial_bias : Initializer, number or numpy.ndarray, optional
        Default 0.

    Attributes
    ----------
    W : Parameter, shape (out_size, in_size)
    b : Parameter, shape (out_size,), or None
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        nobias: bool = False,
        initialW: Any = None,
        initial_bias: Any = None,
    ) -> None:
        super().__init__()
        if out_size is None:
            in_size, out_size = None, in_size
        self._check_size("in_size", 1 if in_size is None else in_size)
        self.out_size = self._check_size("out_size", out_size)
        self._setup_weights(self.out_size, nobias, initialW, initial_bias)
        if in_size is not None:
            self.initialize_params(in_size)

    @property
    def in_size(self) -> int | None:
        """Numbers per example; None until the first batch if it was not given."""
        return None if self.W.array is None else self.W.array.shape[1]

    def initialize_params(self, in_size: int, like: Array | None = None) -> None:
        """Make the parameters whose shape depends on the input's size."""
        self.W.initialize((self.out_size, in_size), like)

    def forward(self, x: Array) -> Array:
        """Map a batch, shape (batch, ...), to shape (batch, out_size)."""
        self._initialize_for(x)
        return F.linear(x, self.W.array, None if self.b is None else self.b.array)

    def _initialize_for(self, x: Array) -> None:
        check_array(type(self).__name__, "x", x)
        if not self.W.is_initialized:
            self.initialize_params(math.prod(x.shape[1:]), like=x)
