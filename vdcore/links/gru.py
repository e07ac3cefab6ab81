"""Gated recurrent unit."""

from __future__ import annotations

from typing import Any

from vdcore import functions as F
from vdcore.arrays import Array
from vdcore.links.recurrent import HiddenStateLink


class StatefulGRU(HiddenStateLink):
    """Gated recurrent unit, with a state that is carried from call to call.

    In the variant of torch and cuDNN; see :func:`vdcore.functions.gru`. Chainer's of
    this name has the reset gate before the lateral product, and six child links.

    Parameters
    ----------
    in_size : int or None
        Numbers per example and step. None: taken from the first call. With one argument
        only it is the `out_size`.
    out_size : int
        Number of units.
    lateral_init, upward_init, bias_init
        As of :class:`LSTM`; the lateral bias begins at 0.
    recompute : bool
        Keep less memory between the passes; see :func:`vdcore.functions.gru`.

    Attributes
    ----------
    upward, lateral : Linear
        From input and hidden state to gates, with bias, as in torch; rows in its order
        reset, update, candidate.
    h : array, shape (batch, out_size), or None
        Hidden state after the last call.
    """

    gates = 3

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = 0,
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        biases = [bias_init] * self.gates
        self._setup(in_size, out_size, upward_init, lateral_init, biases, False)

    def _sequence(
        self, z: Array, W: Array, b: Array | None, **state: Array
    ) -> tuple[Array, dict[str, Array]]:
        hs = F.gru(z, W, b, state["h"], self.recompute)
        return hs, {"h": hs[-1, ...]}

    def _step(
        self, z: Array, a: Array, units: Array | None, **state: Array
    ) -> dict[str, Array]:
        h = F.gru_cell(z, a, state["h"])
        if units is None:
            return {"h": h}
        # Of the candidate: the old state has been multiplied already.
        update = slice(self.out_size, 2 * self.out_size)
        kept = F.sigmoid(z[:, update] + a[:, update]) * state["h"]
        return {"h": (h - kept) * units + kept}
