"""How many words, units and gates a sparse model of sequences has left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from vdcore.backends.sparse.layer import Layer, Stage
from vdcore.backends.sparse.recurrent_layers import (
    GATES,
    Embedding,
    Recurrent,
    is_identity,
)


class Group(NamedTuple):
    """Groups of the weights of a layer that are left.

    Attributes
    ----------
    name : str
        Of the layer.
    kind : {"words", "units", "gates"}
        Words are those whose vector is not 0, units those that something reads, gates
        those of such units that have weights: the others are constants.
    kept, total : int
    """

    name: str
    kind: str
    kept: int
    total: int

    def __str__(self) -> str:
        return f"{self.name}: {self.kept:,} of {self.total:,} {self.kind}"


def groups_of(layers: Sequence[Stage], shrunk: Sequence[Any]) -> tuple[Group, ...]:
    """Count the groups that are left.

    Parameters
    ----------
    layers : sequence of Stage
        As stored.
    shrunk : sequence of Stage
        The same without what does nothing; see
        :func:`vdcore.backends.sparse.recurrent_shrink.shrink_recurrent`.
    """
    groups = []
    table: Any = None  # of the embedding that is the layer before
    for layer, left in zip(layers, shrunk, strict=True):
        if isinstance(layer, Embedding):
            table = left.W
            words = int(numpy.count_nonzero(numpy.diff(table.indptr)))
            groups.append(Group(layer.name, "words", words, layer.W.shape[0]))
            continue
        if isinstance(layer, Recurrent):
            upward = left.upward.W
            if is_identity(layer.upward.W) and table is not None:
                upward = upward[:, numpy.unique(table.indices)]
            has_weights = numpy.diff(upward.indptr) + numpy.diff(left.lateral.W.indptr)
            gates = int(numpy.count_nonzero(has_weights))
            total = GATES[layer.cell] * layer.units
            groups += [
                Group(layer.name, "units", left.units, layer.units),
                Group(layer.name, "gates", gates, total),
            ]
        table = None
    return tuple(groups)


def weighted(layer: Stage) -> tuple[Any, ...]:
    """The tables and matrices of a layer."""
    if isinstance(layer, Recurrent):
        return layer.matrices
    return (layer,) if isinstance(layer, Embedding | Layer) else ()


def weights_left(layers: Sequence[Stage], shrunk: Sequence[Any]) -> int:
    """Number of the weights that are left when what does nothing is gone."""
    return sum(
        left.W.nnz
        for layer, part in zip(layers, shrunk, strict=True)
        for stored, left in zip(weighted(layer), weighted(part), strict=True)
        if not is_identity(stored.W)
    )
