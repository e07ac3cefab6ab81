"""The simple recurrent network."""

from __future__ import annotations

from typing import Any

from vdcore import functions as F
from vdcore.arrays import Array
from vdcore.links.recurrent import HiddenStateLink


class TanhRNN(HiddenStateLink):
    """Simple recurrent network, with a state that is carried from call to call.

    ``h_t = tanh(W_u x_t + W_l h_{t-1} + b)`` (Elman 1990).

    Parameters
    ----------
    in_size : int or None
        Numbers per example and step. None: taken from the first call. With one argument
        only it is the `out_size`.
    out_size : int
        Number of units.
    lateral_init, upward_init, bias_init
        As of :class:`LSTM`.

    Attributes
    ----------
    upward : Linear
        From the input, with bias.
    lateral : Linear
        From the hidden state, without bias.
    h : array, shape (batch, out_size), or None
        Hidden state after the last call.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = 0,
    ) -> None:
        super().__init__()
        self._setup(in_size, out_size, upward_init, lateral_init, [bias_init])

    def _sequence(
        self, z: Array, W: Array, b: Array | None, **state: Array
    ) -> tuple[Array, dict[str, Array]]:
        hs = F.tanh_rnn(z if b is None else z + b, W, state["h"])
        return hs, {"h": hs[-1, ...]}

    def _step(
        self, z: Array, a: Array, units: Array | None, **state: Array
    ) -> dict[str, Array]:
        h = F.tanh(z + a)
        return {"h": h if units is None else h * units}
