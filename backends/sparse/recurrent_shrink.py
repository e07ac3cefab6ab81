"""What can be left out of a sparse model of sequences exactly.

A unit that no weight reads, neither of the next layer nor of a unit that stays, goes
away; so does a column of the embedding that no weight reads. A word whose vector is
pruned takes no room but for the number that says so.

A gate without weights is a constant, and costs no more than its bias. A unit all of
whose gates are constants is none: its cell still goes from the state that it is given
towards its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy

from vdcore.backends.sparse.layer import Layer, Stage
from vdcore.backends.sparse.recurrent_layers import GATES, Embedding, Recurrent
from vdcore.backends.sparse.sequence import input_shape, shapes
from vdcore.backends.sparse.shrink import ungrouped


def shrink_recurrent(
    layers: Sequence[Stage],
) -> tuple[list[Any], list[numpy.ndarray]]:
    """Equivalent layers, all sparse, without the units that do nothing.

    Inputs and outputs of the network stay as they are.

    Parameters
    ----------
    layers : sequence of Stage

    Returns
    -------
    layers : list of Stage
        As many; weights are CSR, biases never None (but of an embedding).
    units : list of array
        Numbers of the units that are left, for each recurrent layer.
    """
    shrunk: list[Any] = [_normal(layer) for layer in layers]
    # Which outputs of the layer before each are left, and of the last.
    stays = [numpy.ones(x, bool) for x in shapes(layers, input_shape(layers) or ())]
    for k in reversed(range(1, len(layers))):
        stays[k] = _read(shrunk[k], stays[k + 1])
        if isinstance(shrunk[k - 1], Recurrent):
            stays[k] = _with_lateral(shrunk[k - 1], stays[k])
    shrunk = [_part(x, *each) for x, each in zip(shrunk, pairwise(stays), strict=True)]
    units = [
        numpy.flatnonzero(kept)
        for layer, kept in zip(layers, stays[1:], strict=True)
        if isinstance(layer, Recurrent)
    ]
    return shrunk, units


def _normal(layer: Any) -> Any:
    """The layer with CSR weights, none of them 0, and biases."""
    if isinstance(layer, Recurrent):
        upward, lateral = map(ungrouped, layer.matrices)
        return replace(layer, upward=upward, lateral=lateral)
    if isinstance(layer, Embedding):
        return replace(ungrouped(layer), b=None)
    return ungrouped(layer)


def _read(layer: Any, stays: numpy.ndarray) -> numpy.ndarray:
    """Which inputs some weight of the outputs that stay reads."""
    if isinstance(layer, Recurrent):
        layer, stays = layer.upward, numpy.tile(stays, GATES[layer.cell])
    if not isinstance(layer, Layer):
        return stays
    read = numpy.zeros(layer.W.shape[1], bool)
    read[layer.W[stays].indices] = True
    return read


def _with_lateral(layer: Recurrent, stays: numpy.ndarray) -> numpy.ndarray:
    """Which units stay, with those that lateral weights of these read."""
    gates = GATES[layer.cell]
    while True:
        more = stays.copy()
        more[layer.lateral.W[numpy.tile(stays, gates)].indices] = True
        if (more == stays).all():
            return stays
        stays = more


def _part(layer: Any, inputs: numpy.ndarray, outputs: numpy.ndarray) -> Any:
    """The layer with some of its inputs and outputs."""
    if isinstance(layer, Embedding):
        return replace(layer, W=layer.W[:, outputs])
    if isinstance(layer, Layer):
        W = layer.W[outputs][:, inputs]
        return replace(layer, W=W, b=layer.b[outputs])
    if isinstance(layer, Recurrent):
        rows = numpy.tile(outputs, GATES[layer.cell])
        upward = _part(layer.upward, inputs, rows)
        return replace(
            layer, upward=upward, lateral=_part(layer.lateral, outputs, rows)
        )
    return layer
