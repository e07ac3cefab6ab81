"""Long short-term memory that reads words."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import initializers
from vdcore.arrays import Array
from vdcore.links.embed_id import EmbedID
from vdcore.links.lstm import LSTM
from vdcore.parameter import Parameter


class OneHotLSTM(LSTM):
    """LSTM that is given words by their numbers, without an embedding between.

    An input weight belongs to a gate of a unit and a word. Of the product of these
    weights with a one-hot vector the column of its word is left: so they are a table
    that has four numbers a unit for each word, whose rows are looked up. It is the same
    network, with the same weights to count and to prune, and no vector as long as the
    vocabulary is multiplied.

    Parameters
    ----------
    in_size : int
        Number of words.
    out_size : int
        Number of units.
    lateral_init, upward_init, bias_init, forget_bias_init, recompute
        As of :class:`LSTM`; the upward weights of a gate have shape (in_size,
        out_size).

    Attributes
    ----------
    upward : EmbedID
        From word to gates, in the order i, f, g, o.
    lateral : Linear
        From hidden state to gates, without bias.
    b : Parameter, shape (4 out_size,)
    c, h : array, shape (batch, out_size), or None
        Cell and hidden state after the last call.
    """

    b: Any

    def _set_upward(
        self,
        in_size: int | None,
        weights: Any,
        default: initializers.Initializer,
        bias: initializers.Initializer,
    ) -> None:
        table = self._by_gate(weights, default, axis=1)
        rows = self.gates * self.out_size
        self.upward = EmbedID(in_size, rows, table)  # type: ignore[arg-type]
        self.b = Parameter(bias, (rows,))

    def forward(self, x: Array, h: Array | None = None, c: Array | None = None) -> Any:
        """Do one step, or all of a sequence.

        Parameters
        ----------
        x : array of integers, shape (batch,) or (time, batch)
            Words.
        h, c
            As of :meth:`LSTM.forward`.

        Returns
        -------
        array, shape (batch, out_size) or (time, batch, out_size), and c
            As of :meth:`LSTM.forward`.

        Raises
        ------
        ValueError, TypeError
            As :meth:`LSTM.forward`, and :func:`vdcore.functions.embed_id`.
        """
        return super().forward(x, h, c)

    @property
    def _input_sizes(self) -> tuple[int | None, ...]:
        return ()

    def _inputs(self, xs: Array) -> Array:
        return self.upward(xs) + self.b.array

    @property
    def _input_bias(self) -> Array:
        return self.b.array

    def as_links(self) -> tuple[Any, ...]:
        """The same of links that ``to_cpu_sparse`` knows: gates take in the vectors."""
        size = self.gates * self.out_size
        unit = numpy.eye(size, dtype=self.lateral.W.initializer.dtype)
        lstm = LSTM(size, self.out_size, 0, unit)
        lstm.upward.b.array = self.b.array
        lstm.replace_child("lateral", self.lateral)
        lstm.unit_scale = self.unit_scale
        return self.upward, lstm
