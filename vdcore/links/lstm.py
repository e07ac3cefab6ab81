"""Long short-term memory."""

from __future__ import annotations

from typing import Any

from vdcore import functions as F
from vdcore.arrays import Array
from vdcore.links.recurrent import RecurrentLink


class LSTM(RecurrentLink):
    """Long short-term memory, with a state that is carried from call to call.

    Parameters
    ----------
    in_size : int or None
        Numbers per example and step. None: taken from the first call. With one argument
        only, as in Chainer, it is the `out_size`.
    out_size : int
        Number of units.
    lateral_init, upward_init : Initializer, number or numpy.ndarray, optional
        Of the weights; an initializer makes each gate by itself, an array is that of
        all gates. Default :class:`~vdcore.initializers.LeCunNormal`;
        :class:`~vdcore.initializers.Orthogonal` suits `lateral_init`.
    bias_init, forget_bias_init : Initializer or number
        Default 0, and 1 for the forget gate, so that it remembers at first (Gers et
        al. 2000).
    recompute : bool
        Keep less memory between the passes; see :func:`vdcore.functions.lstm`.

    Attributes
    ----------
    upward : Linear
        From input to gates, with bias; rows in torch's order i, f, g, o (Chainer
        interleaves them; :func:`vdcore.functions.lstm` shows how to convert weights).
    lateral : Linear
        From hidden state to gates, without bias.
    c, h : array, shape (batch, out_size), or None
        Cell and hidden state after the last call.
    """

    state_names = ("c", "h")
    gates = 4

    c: Any

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = 0,
        forget_bias_init: Any = 1,
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        biases = [bias_init, forget_bias_init, bias_init, bias_init]
        self.recompute = recompute
        self._setup(in_size, out_size, upward_init, lateral_init, biases)

    def set_state(self, c: Array, h: Array) -> None:
        """Begin the next call with this cell and hidden state, which are copied."""
        self._set_state(c=c, h=h)

    def forward(self, x: Array, h: Array | None = None, c: Array | None = None) -> Any:
        """Do one step, or all of a sequence.

        Parameters
        ----------
        x : array, shape (batch, in_size) or (time, batch, in_size)
        h, c : array, shape (batch, out_size), optional
            State to begin with, instead of the link's own, which is neither used nor
            changed; one of the two alone: the other is 0.

        Returns
        -------
        array, shape (batch, out_size) or (time, batch, out_size)
            Hidden state of each step.
        array, shape (batch, out_size)
            Cell state after the last step; only where `h` or `c` is given.

        Raises
        ------
        ValueError
            If the shapes do not fit, the sequence is empty, or the state is that of a
            batch of another size.
        TypeError
            If one of them is no array, or the dtypes or libraries differ.
        """
        hs, state = self._call(x, {"c": c, "h": h})
        return hs if h is None and c is None else (hs, state["c"])

    def _sequence(
        self, z: Array, W: Array, b: Array | None, **state: Array
    ) -> tuple[Array, dict[str, Array]]:
        z = z if b is None else z + b
        hs, c = F.lstm(z, W, state["h"], state["c"], self.recompute)
        return hs, {"c": c, "h": hs[-1, ...]}

    def _step(
        self, z: Array, a: Array, units: Array | None, **state: Array
    ) -> dict[str, Array]:
        h, c = F.lstm_cell(z + a, state["c"])
        return {"c": c, "h": h if units is None else h * units}
