"""The layers of a sparse model, and what can be left out of them exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
from scipy.sparse import csr_array

# In the order of the codes that the compiled kernels know them by.
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "softmax")


@dataclass(frozen=True, eq=False)
class Layer:
    """An affine map of feature vectors and the activation after it.

    Attributes
    ----------
    name : str
    W : scipy.sparse.csr_array or numpy.ndarray, shape (out_size, in_size)
        float32; as stored, which is whichever of the two takes fewer bytes.
    b : numpy.ndarray, shape (out_size,), or None
        float32.
    activation : str
        One of :data:`ACTIVATIONS`; softmax only in the last layer.
    """

    name: str
    W: Any
    b: numpy.ndarray | None
    activation: str = "identity"

    @property
    def is_sparse(self) -> bool:
        """Whether only the kept weights are stored."""
        return not isinstance(self.W, numpy.ndarray)

    @property
    def size(self) -> int:
        """Number of weights before pruning."""
        return self.W.shape[0] * self.W.shape[1]

    @property
    def kept(self) -> int:
        """Number of weights that are left."""
        return int(self.W.nnz if self.is_sparse else numpy.count_nonzero(self.W))

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, Any]:
        """What is stored, by name, in the dtypes that it is stored in."""
        arrays: dict[str, Any] = {} if self.b is None else {"b": self.b}
        if not self.is_sparse:
            return {"W": self.W, **arrays}
        index_type = numpy.uint16 if self.W.shape[1] <= 2**16 else numpy.uint32
        return {
            "values": self.W.data,
            "indices": self.W.indices.astype(index_type),
            "indptr": self.W.indptr.astype(numpy.int32),
            **arrays,
        }


def pruned_layer(
    name: str,
    W: numpy.ndarray,
    keep: numpy.ndarray,
    b: numpy.ndarray | None,
    activation: str = "identity",
) -> Layer:
    """A layer of the weights that a mask keeps, as stored in the fewest bytes.

    Parameters
    ----------
    name : str
    W : array of float32, shape (out_size, in_size)
    keep : array of bool, same shape
    b : array of float32, shape (out_size,), or None
    activation : str
    """
    rows, columns = numpy.nonzero(keep)  # not W != 0: a kept weight may be 0
    indptr = numpy.searchsorted(rows, numpy.arange(W.shape[0] + 1))
    sparse = csr_array((W[rows, columns], columns, indptr), shape=W.shape)
    layers = [
        Layer(name, sparse, b, activation),
        Layer(name, numpy.where(keep, W, numpy.float32(0)), b, activation),
    ]
    return min(layers, key=lambda layer: layer.nbytes)


def activate(h: numpy.ndarray, activation: str, axis: int) -> None:
    """Apply an activation in place; `axis` is that of the features."""
    if activation == "relu":
        numpy.maximum(h, 0, out=h)
    elif activation == "tanh":
        numpy.tanh(h, out=h)
    elif activation == "sigmoid":  # (1 + tanh(h / 2)) / 2 does not overflow
        h *= 0.5
        numpy.tanh(h, out=h)
        h += 1
        h *= 0.5
    elif activation == "softmax":
        h -= h.max(axis=axis, keepdims=True)
        numpy.exp(h, out=h)
        h /= h.sum(axis=axis, keepdims=True)


def shrink(layers: Sequence[Layer]) -> list[Layer]:
    """Equivalent layers, all sparse, without the units that do nothing.

    A hidden unit without weights left is a constant, which goes into the biases after
    it; one that no weight reads goes away. The others are put in order of their number
    of weights, so that a processor can foresee the length of the next one. Inputs and
    outputs of the network stay as they are. Biases are never None.
    """
    W: list[Any] = [csr_array(layer.W) for layer in layers]
    b = [
        numpy.zeros(layer.W.shape[0], numpy.float32) if layer.b is None else layer.b
        for layer in layers
    ]
    for k, layer in enumerate(layers[:-1]):
        alive = numpy.diff(W[k].indptr) > 0
        constant = b[k].copy()
        activate(constant, layer.activation, axis=0)
        constant[alive] = 0
        b[k + 1] = b[k + 1] + W[k + 1] @ constant
        W[k], b[k], W[k + 1] = W[k][alive], b[k][alive], W[k + 1][:, alive]
    for k in range(len(layers) - 1, 0, -1):
        read = numpy.unique(W[k].indices)
        units = read[numpy.argsort(numpy.diff(W[k - 1].indptr)[read], kind="stable")]
        W[k - 1], b[k - 1], W[k] = W[k - 1][units], b[k - 1][units], W[k][:, units]
        W[k].sort_indices()
    return [replace(layer, W=W[k], b=b[k]) for k, layer in enumerate(layers)]
