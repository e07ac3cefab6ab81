"""The layers of a sparse model of sequences.

Besides them such a model has layers that treat each step by itself: ``Layer`` and
``Activation`` of :mod:`vdcore.backends.sparse.layer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy
from scipy.sparse import csr_array

from vdcore.backends.sparse.layer import Layer, Shape, Stage, WeightedStage

# Blocks of rows of the weights, and arrays of a state, by cell; the cells in the order
# of the codes that the compiled kernels know them by.
GATES = {"lstm": 4, "gru": 3, "tanh": 1}
STATES = {"lstm": ("h", "c"), "gru": ("h",), "tanh": ("h",)}
CELLS = tuple(GATES)


@dataclass(frozen=True, eq=False)
class Embedding(WeightedStage):
    """A table of vectors, looked up by integers; the first layer.

    Attributes
    ----------
    name : str
    W : scipy.sparse.csr_array or numpy.ndarray, shape (integers, size)
        float32; as stored, which is whichever of the two takes fewer bytes.
    b : None
    """

    b: None = None

    def out_shape(self, in_shape: Shape) -> Shape:
        """A vector; there is no axis in the shape of an integer."""
        self.expect(in_shape == (), "integers, so as the first one", in_shape)
        return (self.W.shape[1],)


@dataclass(frozen=True, eq=False)
class Recurrent(Stage):
    """A recurrent layer: two affine maps, and what makes a new state of their results.

    Attributes
    ----------
    name : str
    cell : {"lstm", "gru", "tanh"}
        As ``vdcore.functions.lstm``, ``gru`` and ``tanh_rnn``: gates are blocks of
        rows, in the orders i, f, g, o and reset, update, candidate.
    upward : Layer
        Weights by which the input counts, shape (gates * units, in_size).
    lateral : Layer
        Weights by which the hidden state counts, shape (gates * units, units).
    """

    name: str
    cell: str
    upward: Layer
    lateral: Layer

    @property
    def units(self) -> int:
        """Numbers of the hidden state."""
        return self.upward.W.shape[0] // GATES[self.cell]

    @property
    def matrices(self) -> tuple[Layer, Layer]:
        """Both affine maps."""
        return self.upward, self.lateral

    @property
    def size(self) -> int:
        """Number of weights before pruning."""
        return sum(layer.size for layer in self._counted)

    @property
    def kept(self) -> int:
        """Number of weights that are left."""
        return sum(layer.kept for layer in self._counted)

    @property
    def _counted(self) -> list[Layer]:
        """Maps with weights: gates that are the input itself have none."""
        return [layer for layer in self.matrices if not is_identity(layer.W)]

    def arrays(self) -> dict[str, Any]:
        """What is stored, by name, in the dtypes that it is stored in."""
        return {
            f"{name}/{key}": array
            for name, layer in (("upward", self.upward), ("lateral", self.lateral))
            for key, array in layer.arrays().items()
        }

    def out_shape(self, in_shape: Shape) -> Shape:
        """The hidden state."""
        self.upward.out_shape(in_shape)
        rows, units = self.upward.W.shape[0], self.units
        if rows != GATES[self.cell] * units or self.lateral.W.shape != (rows, units):
            message = (
                f"expected layer `{self.name}` to have upward and lateral weights of "
                f"shape ({GATES[self.cell]} * units, ...) and ({GATES[self.cell]} * "
                f"units, units); got {self.upward.W.shape} and {self.lateral.W.shape}"
            )
            raise ValueError(message)
        return (self.units,)


def is_identity(W: Any) -> bool:
    """Whether weights are a unit matrix, stored sparse."""
    size = W.shape[0]
    return (
        not isinstance(W, numpy.ndarray)
        and W.shape == (size, size)
        and W.nnz == size
        and bool((csr_array(W).diagonal() == 1).all())
    )
