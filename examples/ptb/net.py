"""The networks of the Penn Treebank example, plain and variational."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

from vdcore import Chain, Parameter, initializers
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import array_namespace, untraced


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


class OneHotLSTM(Chain):
    """LSTM that is given words by their numbers, without an embedding between.

    An input weight belongs to a gate of a unit and a word. Of the product of these
    weights with a one-hot vector the column of its word is left: so they are a table
    that has four numbers a unit for each word, ``embed``, whose rows are looked up. It
    is the same network, with the same weights to count and to prune, and no vector of
    10,000 numbers is multiplied.

    Attributes
    ----------
    embed : EmbedID
        From word to gates, in the order i, f, g, o; their biases are `b`.
    lateral : Linear
        From hidden state to gates.
    c, h : array, shape (batch, n_units), or None
        Cell and hidden state after the last call.
    """

    state_names = ("c", "h")

    def __init__(self, n_vocab: int, n_units: int) -> None:
        super().__init__()
        make = initializers.Orthogonal()
        table = numpy.concatenate([make((n_vocab, n_units)) for _ in range(4)], axis=1)
        lateral = numpy.concatenate([make((n_units, n_units)) for _ in range(4)])
        bias = numpy.zeros((4, n_units), "f4")
        bias[1] = 1  # so that the cell remembers at first
        with self.init_scope():
            self.embed = L.EmbedID(n_vocab, 4 * n_units, table)
            self.lateral = L.Linear(n_units, 4 * n_units, nobias=True, initialW=lateral)
            self.b = Parameter(initializers.Given(bias.ravel()), (4 * n_units,))
        self.n_units = n_units
        self.reset_state()

    def reset_state(self) -> None:
        """Begin the next text anew."""
        self.c = self.h = None

    def forward(self, x: Any) -> Any:
        """Hidden states, shape (length, batch, n_units), of words (length, batch)."""
        z = self.embed(x) + self.b.array
        if self.h is None:
            shape = (x.shape[1], self.n_units)
            dtype = untraced(self.b.array).dtype
            self.c = self.h = array_namespace(x).zeros(shape, dtype=dtype)
        lateral = self.lateral
        is_variational = isinstance(lateral, L.VariationalLink)
        W = lateral.sample_W() if is_variational else lateral.W.array
        hs, self.c = F.lstm(z, W, self.h, self.c)
        self.h = hs[-1, ...]
        return hs

    def as_links(self) -> tuple[Any, ...]:
        """The same of links that ``to_cpu_sparse`` knows: gates take in the vectors."""
        size = 4 * self.n_units
        unit = numpy.eye(size, dtype="f4")
        lstm = L.LSTM(size, self.n_units, upward_init=unit)
        lstm.upward.b.array = self.b.array
        lstm.replace_child("lateral", self.lateral)
        return self.embed, lstm


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
        with self.init_scope():
            self.l1 = OneHotLSTM(n_vocab, n_units)
            self.dropout = L.Dropout(dropout)
            self.l2 = L.Linear(n_units, n_vocab, initialW=initializers.Orthogonal())

    def reset_state(self) -> None:
        """Begin the next text anew."""
        self.l1.reset_state()

    def forward(self, x: Any) -> Any:
        """Scores of the next words, (length * batch, n_vocab), of x (length, batch)."""
        return self.l2(F.rows(self.dropout(self.l1(x))))


class OneHotRNNForLMVD(L.VariationalDropoutChain, OneHotRNNForLM):
    """The network whose weights are all learned by sparse variational dropout.

    `variational` as of :class:`RNNForLMVD`; of the lateral weights there is one draw a
    window whatever its ``"noise"``.
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
