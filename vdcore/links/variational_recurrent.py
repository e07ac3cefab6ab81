"""Recurrent layers with a Gaussian posterior on their weights."""

from __future__ import annotations

from typing import Any

from vdcore.links.gru import StatefulGRU
from vdcore.links.lstm import LSTM
from vdcore.links.recurrent import RecurrentLink
from vdcore.links.tanh_rnn import TanhRNN
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import VariationalLink
from vdcore.links.variational_rules import check_rule


class _VariationalRecurrentLink(RecurrentLink):
    """Mix-in that makes the children of a recurrent layer variational."""

    @classmethod
    def from_link(cls, link: Any, *, noise: str = "weights", **options: Any) -> Any:
        """A variational layer with the weights (copied) of a plain one.

        Parameters
        ----------
        link : LSTM, StatefulGRU or TanhRNN
            The plain form of this class. Its biases are kept, and none is added. The
            new layer begins with no state.
        noise, **options
            As of this class.
        """
        new = cls(None, link.out_size)  # type: ignore[call-arg]
        if hasattr(link, "recompute"):
            new.recompute = link.recompute
        new._take_children(link, noise, options)
        return new

    def _take_children(self, link: Any, noise: str, options: dict[str, Any]) -> None:
        """Take the variational forms of a layer's children, and a rule of noise."""
        check_rule(type(self).__name__, noise)
        self.noise = noise
        for name in ("upward", "lateral"):
            child = link[name]
            if not isinstance(child, VariationalLink):
                child = VariationalDropoutLinear.from_link(child, **options)
            self.replace_child(name, child)


class VariationalDropoutLSTM(_VariationalRecurrentLink, LSTM):
    """Long short-term memory trained by sparse variational dropout.

    Its children `upward` and `lateral` are :class:`VariationalDropoutLinear`; they are
    what statistics, sizes and the KL term count.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init, forget_bias_init, recompute
        As of :class:`LSTM`.
    noise : {"weights", "activations"}
        How weights are noisy in training. "weights": one draw of all weights for a
        call, shared by the batch and by all steps of a sequence; it costs the matrix
        products of the plain layer (Chirkova, Lobacheva and Vetrov 2018; what is drawn
        is a posterior sample, so that a sequence is run by one network).
        "activations": local reparameterisation, noise of its own for each example and
        step (Molchanov et al. 2017); the variance of the gradient is smaller, each
        product is two, and lateral ones go step by step.
    **options
        `p_threshold`, `loga_threshold`, `initial_log_sigma2`, `mask_in_training`, `kl`,
        `clip` and `rng`, as of :class:`VariationalDropoutLinear`.

    References
    ----------
    Lobacheva, Chirkova, Vetrov, "Bayesian sparsification of recurrent neural networks",
    2017. Chirkova, Lobacheva, Vetrov, "Bayesian compression for natural language
    processing", EMNLP 2018. Molchanov, Ashukha, Vetrov, ICML 2017.

    Notes
    -----
    With ``config.train`` False the weights are their means with the noise weights left
    out. A call is one draw: to give a window of a text one draw, call the layer once
    with the whole sequence.
    """

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
        noise: str = "weights",
        **options: Any,
    ) -> None:
        super().__init__(
            in_size,
            out_size,
            lateral_init,
            upward_init,
            bias_init,
            forget_bias_init,
            recompute=recompute,
        )
        self._take_children(self, noise, options)


class VariationalDropoutGRU(_VariationalRecurrentLink, StatefulGRU):
    """Gated recurrent unit trained by sparse variational dropout.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init, recompute
        As of :class:`StatefulGRU`.
    noise, **options
        As of :class:`VariationalDropoutLSTM`.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = 0,
        *,
        recompute: bool = False,
        noise: str = "weights",
        **options: Any,
    ) -> None:
        super().__init__(
            in_size,
            out_size,
            lateral_init,
            upward_init,
            bias_init,
            recompute=recompute,
        )
        self._take_children(self, noise, options)


class VariationalDropoutTanhRNN(_VariationalRecurrentLink, TanhRNN):
    """Simple recurrent network trained by sparse variational dropout.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init
        As of :class:`TanhRNN`.
    noise, **options
        As of :class:`VariationalDropoutLSTM`.
    """

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        lateral_init: Any = None,
        upward_init: Any = None,
        bias_init: Any = 0,
        *,
        noise: str = "weights",
        **options: Any,
    ) -> None:
        super().__init__(in_size, out_size, lateral_init, upward_init, bias_init)
        self._take_children(self, noise, options)
