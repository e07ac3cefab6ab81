"""What can be left out of the layers of a sparse model exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
from scipy.sparse import csr_array

from vdcore.backends.sparse_layer import Layer, activate


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
