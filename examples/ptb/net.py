"""The networks of the Penn Treebank example, plain and variational."""

from __future__ import annotations

from typing import Any, NamedTuple

from vdcore import Chain, initializers
from vdcore import functions as F
from vdcore import links as L


class RNNForLM(Chain):
    """Embedding, two LSTMs and a softmax layer, with dropout between them.

    After the medium network of Zaremba, Sutskever and Vinyals (2014): with 650 units
    and 10,000 words 19,760,000 weights. All parameters begin uniform within 0.1.

    Parameters
    ----------
    n_vocab : int
    n_units : int
        Of the embedding and of each LSTM.
    dropout : float
        In training, after the embedding and after each LSTM.
    """

    def __init__(self, n_vocab: int, n_units: int = 650, dropout: float = 0.5) -> None:
        super().__init__()
        uniform = initializers.Uniform(0.1)
        gates = {
            "upward_init": uniform,
            "lateral_init": uniform,
            "bias_init": uniform,
            "forget_bias_init": uniform,
        }
        with self.init_scope():
            self.embed = L.EmbedID(n_vocab, n_units, uniform)
            self.dropout1 = L.Dropout(dropout)
            self.l1 = L.LSTM(n_units, n_units, **gates)
            self.dropout2 = L.Dropout(dropout)
            self.l2 = L.LSTM(n_units, n_units, **gates)
            self.dropout3 = L.Dropout(dropout)
            self.l3 = L.Linear(n_units, n_vocab, initialW=uniform, initial_bias=uniform)

    def reset_state(self) -> None:
        """Begin the next text anew."""
        self.l1.reset_state()
        self.l2.reset_state()

    def forward(self, x: Any) -> Any:
        """Scores of the next words, (length * batch, n_vocab), of x (length, batch)."""
        h = self.l1(self.dropout1(self.embed(x)))
        h = self.l2(self.dropout2(h))
        return self.l3(F.rows(self.dropout3(h)))


class RNNForLMVD(L.VariationalDropoutChain, RNNForLM):
    """The network whose weights, embedding and softmax too, are learned by sparse VD.

    `variational` holds options of the layers, for example ``{"kl": "exact"}``. Ordinary
    dropout is off.
    """

    def __init__(
        self, *args: Any, variational: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, dropout=0, **kwargs)
        self.to_variational_dropout(**(variational or {}))


class OneHotRNNForLM(Chain):
    """One LSTM, of one-hot words, and a softmax layer: that of Lobacheva et al. (2017).

    With 256 units and 10,000 words 13,062,144 weights, 10,240,000 of them of the input.
    Weights begin orthogonal, those of each gate by themselves.

    Parameters
    ----------
    n_vocab, n_units : int
    dropout : float
        In training, after the LSTM.
    """

    def __init__(self, n_vocab: int, n_units: int = 256, dropout: float = 0.5) -> None:
        super().__init__()
        each = initializers.Orthogonal()
        with self.init_scope():
            self.l1 = L.OneHotLSTM(n_vocab, n_units, each, each)
            self.dropout = L.Dropout(dropout)
            self.l2 = L.Linear(n_units, n_vocab, initialW=each)

    def reset_state(self) -> None:
        """Begin the next text anew."""
        self.l1.reset_state()

    def forward(self, x: Any) -> Any:
        """Scores of the next words, (length * batch, n_vocab), of x (length, batch)."""
        return self.l2(F.rows(self.dropout(self.l1(x))))


class OneHotRNNForLMVD(L.VariationalDropoutChain, OneHotRNNForLM):
    """The network whose weights are all learned by sparse variational dropout.

    `variational` as of :class:`RNNForLMVD`.
    """

    def __init__(
        self, *args: Any, variational: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, dropout=0, **kwargs)
        self.to_variational_dropout(**(variational or {}))


class Network(NamedTuple):
    """What ``--recipe`` chooses: a plain network and its variational form."""

    plain: Any
    variational: Any


NETWORKS = {
    "soskek": Network(RNNForLM, RNNForLMVD),
    "lobacheva": Network(OneHotRNNForLM, OneHotRNNForLMVD),
}
