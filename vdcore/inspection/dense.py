"""The plain dense network that a trained model amounts to, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from vdcore.arrays import to_numpy
from vdcore.link import Link
from vdcore.links.linear import Linear
from vdcore.links.variational_linear import VariationalDropoutLinear
from vdcore.links.variational_link import VariationalLink
from vdcore.recording import record

ACTIVATIONS: dict[str, Callable[[numpy.ndarray], numpy.ndarray]] = {
    "relu": lambda x: numpy.maximum(x, 0, out=x),
    "tanh": lambda x: numpy.tanh(x, out=x),
    "sigmoid": lambda x: 1 / (1 + numpy.exp(-x)),
    "softmax": lambda x: numpy.exp(x) / numpy.exp(x).sum(axis=1, keepdims=True),
    "flatten": lambda x: x.reshape(len(x), -1),
}


class DenseModel:
    """A model's mean weights as plain NumPy arrays: the fair rival of a sparse model.

    It does per call what any dense network does: matrix products and activations, with
    nothing left to compute about the weights.

    Parameters
    ----------
    model : Link
        Of linear and variational linear layers.
    masked : bool
        Put the noise weights at 0 (they still take part in the products).
    """

    def __init__(self, model: Link, *, masked: bool = True) -> None:
        self._steps: list[Any] = []
        leaves: dict[type, Any] = {
            Linear: _out_shape,
            VariationalDropoutLinear: _out_shape,
        }
        for step in record(model, leaves):
            link: Any = step.link
            if link is None:
                self._steps.append(ACTIVATIONS[step.name])
                continue
            variational = isinstance(link, VariationalLink)
            W = link.masked_W() if variational and masked else link.W.array
            b = 0 if link.b is None else to_numpy(link.b.array)
            self._steps.append((to_numpy(W).T, b))

    def __call__(self, x: numpy.ndarray) -> numpy.ndarray:
        """Map a batch, shape (batch, ...), to the outputs of the last layer."""
        x = x.reshape(len(x), math.prod(x.shape[1:]))
        for step in self._steps:
            if isinstance(step, tuple):
                x = x @ step[0]
                x += step[1]
            else:
                x = step(x)
        return x


def _out_shape(link: Any, shape: Any) -> tuple[int, ...]:
    return (link.out_size,)


def error_rate(
    predict: Callable[[numpy.ndarray], Any],
    x: numpy.ndarray,
    t: numpy.ndarray,
    batch_size: int = 1000,
) -> float:
    """Fraction of examples whose largest output is not that of their label.

    Parameters
    ----------
    predict : callable
        From a batch to scores, shape (batch, classes).
    x : array, shape (n, ...)
    t : array of integers, shape (n,)
    batch_size : int
        Examples per call.
    """
    wrong = 0
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        wrong += int((to_numpy(predict(x[part])).argmax(axis=1) != t[part]).sum())
    return wrong / len(x)
