"""Recurrent layers with a Gaussian posterior on their weights."""

from __future__ import annotations

from typing import Any

from vdcore import initializers
from vdcore.links.embed_id import EmbedID
from vdcore.links.gru import StatefulGRU
from vdcore.links.lstm import LSTM
from vdcore.links.one_hot_lstm import OneHotLSTM
from vdcore.links.recurrent import RecurrentLink
from vdcore.links.tanh_rnn import TanhRNN
from vdcore.links.variational_embed_id import VariationalDropoutEmbedID
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import Multiplied, VariationalLink
from vdcore.links.variational_rules import check_multipliers, check_rule
from vdcore.links.variational_scale import VariationalDropoutScale


class _VariationalRecurrentLink(RecurrentLink):
    """Mix-in that makes the children of a recurrent layer variational."""

    kinds_of_multipliers: tuple[str, ...] = ("units", "gates")

    @classmethod
    def from_link(
        cls,
        link: Any,
        *,
        noise: str = "weights",
        multipliers: tuple[str, ...] = (),
        **options: Any,
    ) -> Any:
        """A variational layer with the weights (copied) of a plain one.

        Parameters
        ----------
        link : LSTM, StatefulGRU or TanhRNN
            The plain form of this class. Its biases are kept, and none is added. The
            new layer begins with no state.
        noise, multipliers, **options
            As of this class.
        """
        # Nothing is drawn that the weights of `link` take the place of.
        in_size = link.in_size if isinstance(link.upward, EmbedID) else None
        new = cls(in_size, link.out_size, 0, 0)  # type: ignore[call-arg]
        if hasattr(link, "recompute"):
            new.recompute = link.recompute
        new._take_children(link, noise, multipliers, options)
        return new

    def _take_children(
        self,
        link: Any,
        noise: str,
        multipliers: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        """Take the variational forms of a layer's children, and how they are noisy."""
        check_rule(type(self).__name__, noise)
        check_multipliers(type(self).__name__, multipliers, self.kinds_of_multipliers)
        self.noise = noise
        for name in ("upward", "lateral"):
            child = link[name]
            if isinstance(child, EmbedID):
                words = tuple(x for x in multipliers if x == "words")
                rules = {"noise": noise, "multipliers": words}
                child = VariationalDropoutEmbedID.from_link(child, **rules, **options)
            elif not isinstance(child, VariationalLink):
                child = VariationalDropoutLinear.from_link(child, **options)
            self.replace_child(name, child)
        self._add_multipliers(multipliers, options)

    def _add_multipliers(
        self, multipliers: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        """Make multipliers, and tell the weights that they belong to."""
        W = self.lateral.W
        one = initializers.Constant(1, W.initializer.dtype)
        rows, columns = [], []
        with self.init_scope():
            if "gates" in multipliers:
                size = self.gates * self.out_size
                self.gate_scale = VariationalDropoutScale(size, one, **options)
                rows.append(Multiplied(self.gate_scale, axis=0))
            if "units" in multipliers:
                scale = VariationalDropoutScale(self.out_size, one, **options)
                self.unit_scale = scale
                rows.append(Multiplied(scale, 0, self.gates, is_factor=False))
                columns.append(Multiplied(scale, axis=1))
        axis = 1 if isinstance(self.upward, EmbedID) else 0
        self.upward.multiplied += tuple(x._replace(axis=axis) for x in rows)
        self.lateral.multiplied += (*rows, *columns)
        for scale in (self.gate_scale, self.unit_scale):
            if scale is not None and W.is_initialized:
                scale.place(W.array)


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
    multipliers : tuple of str
        Groups of weights that have a multiplier, with a posterior of its own and a draw
        for each example and call, so that whole groups are left out (Chirkova,
        Lobacheva and Vetrov 2018). "units": of the hidden state of each unit. "gates":
        of what input and hidden state add to each gate of a unit, which is constant
        without. Sequences are run step by step then. Default none.
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
        multipliers: tuple[str, ...] = (),
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
        self._take_children(self, noise, multipliers, options)


class VariationalDropoutOneHotLSTM(VariationalDropoutLSTM, OneHotLSTM):
    """:class:`OneHotLSTM` trained by sparse variational dropout.

    Its child `upward` is a :class:`VariationalDropoutEmbedID`.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init, forget_bias_init, recompute
        As of :class:`OneHotLSTM`.
    noise, multipliers, **options
        As of :class:`VariationalDropoutLSTM`, and of :class:`VariationalDropoutEmbedID`
        for "words". The published language model has noise of "weights".
    """

    kinds_of_multipliers = ("words", "units", "gates")

    def _take_children(
        self,
        link: Any,
        noise: str,
        multipliers: tuple[str, ...],
        options: dict[str, Any],
    ) -> None:
        self.b.array = link.b.array + 0
        super()._take_children(link, noise, multipliers, options)


class VariationalDropoutGRU(_VariationalRecurrentLink, StatefulGRU):
    """Gated recurrent unit trained by sparse variational dropout.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init, recompute
        As of :class:`StatefulGRU`.
    noise, multipliers, **options
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
        multipliers: tuple[str, ...] = (),
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
        self._take_children(self, noise, multipliers, options)


class VariationalDropoutTanhRNN(_VariationalRecurrentLink, TanhRNN):
    """Simple recurrent network trained by sparse variational dropout.

    Parameters
    ----------
    in_size, out_size, lateral_init, upward_init, bias_init
        As of :class:`TanhRNN`.
    noise, multipliers, **options
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
        multipliers: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__(in_size, out_size, lateral_init, upward_init, bias_init)
        self._take_children(self, noise, multipliers, options)
