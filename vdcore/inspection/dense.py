"""The plain dense network that a trained model amounts to, and its errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from vdcore.arrays import to_numpy
from vdcore.link import Link


class DenseModel:
    """A model's mean weights as plain NumPy arrays: the fair rival of a sparse model.

    It does per call what any dense network does: matrix products, of images unfolded
    where there are convolutions, and activations, with nothing left to compute about
    the weights.

    Parameters
    ----------
    model : Link
        Of what :func:`vdcore.backends.sparse_backend.to_cpu_sparse` takes.
    in_shape : tuple of int, optional
        Shape of one example; needed for models of images.
    masked : bool
        Put the noise weights at 0 (they still take part in the products).
    """

    def __init__(
        self,
        model: Link,
        in_shape: tuple[int, ...] | None = None,
        *,
        masked: bool = True,
    ) -> None:
        from vdcore.backends.sparse.export import layers_of
        from vdcore.backends.sparse.products import dense_network

        layers, shape = layers_of(model, in_shape, masked=masked, dense=True)
        self._predict, self._out_shape = dense_network(layers, shape)

    def __call__(self, x: numpy.ndarray) -> numpy.ndarray:
        """Map a batch, shape (batch, ...), to the outputs of the last layer."""
        y = self._predict(x.reshape(len(x), math.prod(x.shape[1:])))
        return y.reshape(len(x), *self._out_shape)


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
