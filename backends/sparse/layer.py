"""The layers of a sparse model, and what each of them stores.

A model is a sequence of layers of five kinds: :class:`Layer` (an affine map),
:class:`Activation`, and those of images in :mod:`vdcore.backends.sparse.images`:
``Convolution``, ``Pooling`` and ``Flatten``. They are descriptions; what runs them is
in :mod:`vdcore.backends.sparse.runtime`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy
from scipy.sparse import csr_array

Shape = tuple[int, ...]  # of one example

# In the order of the codes that the compiled kernels know them by.
ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "softmax")


class Stage(ABC):
    """What all kinds of layers have in common.

    Attributes
    ----------
    name : str
    activation : str
        One of :data:`ACTIVATIONS`, applied last.
    """

    name: str
    activation: str = "identity"
    size: int = 0  # weights before pruning
    kept: int = 0  # weights that are left

    @abstractmethod
    def out_shape(self, in_shape: Shape) -> Shape:
        """Shape of one example after the layer.

        Raises
        ------
        ValueError
            If the layer cannot follow an example of `in_shape`.
        """

    def arrays(self) -> dict[str, Any]:
        """What is stored, by name, in the dtypes that it is stored in."""
        return {}

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def expect(self, condition: bool, expected: str, in_shape: Shape) -> None:
        """Raise the ValueError of :meth:`out_shape` unless a condition holds."""
        if not condition:
            message = (
                f"expected layer `{self.name}` to follow {expected}; got examples of "
                f"shape {in_shape}"
            )
            raise ValueError(message)


@dataclass(frozen=True, eq=False)
class Activation(Stage):
    """An activation that follows another, a pooling, or the input.

    Attributes
    ----------
    name, activation : str
    """

    name: str
    activation: str

    def out_shape(self, in_shape: Shape) -> Shape:
        """The same; softmax takes feature vectors only."""
        flat = self.activation != "softmax" or len(in_shape) == 1
        self.expect(flat, "feature vectors, for it is a softmax", in_shape)
        return in_shape


@dataclass(frozen=True, eq=False)
class WeightedStage(Stage):
    """A layer with weights.

    Attributes
    ----------
    name : str
    W : scipy.sparse.csr_array or numpy.ndarray, two axes
        float32; as stored, which is whichever of the two takes fewer bytes.
    b : numpy.ndarray, or None
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
    def size(self) -> int:  # type: ignore[override]
        """Number of weights before pruning."""
        return self.W.shape[0] * self.W.shape[1]

    @property
    def kept(self) -> int:  # type: ignore[override]
        """Number of weights that are left."""
        return int(self.W.nnz if self.is_sparse else numpy.count_nonzero(self.W))

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


@dataclass(frozen=True, eq=False)
class Layer(WeightedStage):
    """An affine map of feature vectors and the activation after it.

    Images are taken as vectors, row by row, channel by channel.

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

    def out_shape(self, in_shape: Shape) -> Shape:
        """A vector of the outputs."""
        out_size, in_size = self.W.shape
        fits = math.prod(in_shape) == in_size
        self.expect(fits, f"examples of {in_size} numbers", in_shape)
        return (out_size,)


Weighted = TypeVar("Weighted", bound=WeightedStage)


def pruned(layer: Weighted, keep: numpy.ndarray) -> Weighted:
    """The layer with the weights that a mask keeps, as stored in the fewest bytes.

    Parameters
    ----------
    layer : Layer or Convolution
        With a dense `W`.
    keep : array of bool, shape of `W`
    """
    W = layer.W
    rows, columns = numpy.nonzero(keep)  # not W != 0: a kept weight may be 0
    indptr = numpy.searchsorted(rows, numpy.arange(W.shape[0] + 1))
    sparse = csr_array((W[rows, columns], columns, indptr), shape=W.shape)
    forms = [
        replace(layer, W=sparse),
        replace(layer, W=numpy.where(keep, W, numpy.float32(0))),
    ]
    return min(forms, key=lambda form: form.nbytes)


def pruned_layer(
    name: str,
    W: numpy.ndarray,
    keep: numpy.ndarray,
    b: numpy.ndarray | None,
    activation: str = "identity",
) -> Layer:
    """An affine layer of the weights that a mask keeps; see :func:`pruned`.

    Parameters
    ----------
    name : str
    W : array of float32, shape (out_size, in_size)
    keep : array of bool, same shape
    b : array of float32, shape (out_size,), or None
    activation : str
    """
    return pruned(Layer(name, W, b, activation), keep)


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
