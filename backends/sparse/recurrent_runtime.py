"""Run the layers of a sparse model of sequences: compiled, or by NumPy and SciPy.

What runs them is given an input, one row for each step and example, step by step, and
the state, shape (batch, numbers), which it changes in place: for each recurrent layer
`h` and, of an LSTM, `c`. Layers are those that ``shrink_recurrent`` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy

from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse.layer import (
    Activation,
    Layer,
    Stage,
    WeightedStage,
    activate,
)
from vdcore.backends.sparse.products import Network
from vdcore.backends.sparse.recurrent_layers import (
    CELLS,
    STATES,
    Embedding,
    Recurrent,
)
from vdcore.backends.sparse.runtime import (
    FORMATS,
    fastest_format,
    network,
)

SequenceNetwork = Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray]

FEW = 2  # examples, or rows of all, that are computed one by one where compiled
MANY = 16  # numbers that products of more are made for
DENSE_TABLE = 0.4  # share of its weights from which all of a matrix are stored


def state_size(layer: Recurrent) -> int:
    """Numbers in the state of one example."""
    return len(STATES[layer.cell]) * layer.units


def is_mostly_dense(layer: Embedding) -> bool:
    """Whether vectors are to be treated as any, not as zeros and a few others."""
    return layer.kept >= DENSE_TABLE * layer.size


def matrices(layer: Stage) -> tuple[WeightedStage, ...]:
    """Products that a layer takes."""
    if isinstance(layer, Recurrent):
        return layer.matrices
    return (layer,) if isinstance(layer, Layer) else ()


def available_formats() -> tuple[str, ...]:
    """How products can be computed here."""
    return FORMATS if numba_or_none() is not None else FORMATS[1:]


def sequence_network(
    layers: Sequence[Stage], threads: int, asked: str | None = None
) -> tuple[SequenceNetwork, list[str]]:
    """The function that runs the layers, and how it computes each product.

    Parameters
    ----------
    layers : sequence of Stage
    threads : int
    asked : str, optional
        One of :data:`vdcore.backends.sparse.runtime.FORMATS` for all products. Default
        what takes least time with one example; where compiled, for each row.

    Returns
    -------
    function : callable
    formats : list of str
    """
    products = [matrix for layer in layers for matrix in matrices(layer)]
    if asked is not None:
        formats = [asked] * len(products)
    elif numba_or_none() is None:
        formats = [fastest_format(matrix, 1) for matrix in products]
    else:
        formats = ["dense" if _is_full(x) else "compiled" for x in products]
    if numba_or_none() is None or asked == "csr":
        return layer_by_layer(layers, threads, asked), formats

    # Networks for other cases are made when one comes.
    ends = [k for k, layer in enumerate(layers) if isinstance(layer, Recurrent)]
    end = ends[-1] + 1 if ends else 0

    @cache
    def steps(until: int) -> Any:
        from vdcore.backends.sparse.recurrent_program import compiled_steps
        from vdcore.backends.sparse.slice_kernels import FULL_FROM

        full_from = {"dense": 0.0, "compiled": 2.0}.get(asked or "", FULL_FROM)
        return compiled_steps(layers[:until], full_from, threads)

    @cache
    def rest(first: int) -> Any:
        return layer_by_layer(layers[first:], threads, asked)

    def run(x: numpy.ndarray, state: numpy.ndarray) -> numpy.ndarray:
        if len(x) <= FEW:
            return steps(len(layers))(x, state)
        if len(state) > FEW or not end:
            return rest(0)(x, state)
        x = steps(end)(x, state)
        return rest(end)(x, state) if end < len(layers) else x

    return run, formats


def _is_full(matrix: Any) -> bool:
    """Whether all rows have so many weights left that all of them are multiplied."""
    from vdcore.backends.sparse.slice_kernels import FULL_FROM

    counts = numpy.diff(matrix.W.indptr)
    return bool((counts >= FULL_FROM * matrix.W.shape[1]).all()) and matrix.kept > 0


# Layer by layer


def layer_by_layer(
    layers: Sequence[Stage], threads: int, asked: str | None = None
) -> SequenceNetwork:
    """Each layer for all rows, where it can: lateral products are taken by step."""
    parts: list[SequenceNetwork] = []
    place = 0
    for kind, group in groupby(layers, _kind):
        for members in [list(group)] if kind is Layer else [[x] for x in group]:
            first: Any = members[0]
            if kind is Embedding:
                parts.append(_looked_up(first))
            elif kind is Recurrent:
                parts.append(_recurrence(first, place, threads, asked))
                place += state_size(first)
            else:
                parts.append(_by_rows(members, threads, asked))

    def run(x: numpy.ndarray, state: numpy.ndarray) -> numpy.ndarray:
        for part in parts:
            x = part(x, state)
        return x

    return run


def _kind(layer: Stage) -> type:
    return type(layer) if isinstance(layer, Embedding | Recurrent) else Layer


def _looked_up(layer: Embedding) -> SequenceNetwork:
    table: Any = layer.W
    if is_mostly_dense(layer):
        dense = table.toarray()
        return lambda ids, state: dense[ids]
    return lambda ids, state: table[ids].toarray()


def _by_rows(layers: Sequence[Any], threads: int, asked: str | None) -> SequenceNetwork:
    """Layers without a state."""
    run = _network(layers, threads, asked)
    return lambda x, state: run(x)


def _network(layers: Sequence[Any], threads: int, asked: str | None) -> Network:
    weighted = [layer for layer in layers if isinstance(layer, Layer)]
    if not weighted:
        return lambda x: _activated(x, layers)
    in_shape = (weighted[0].W.shape[1],)
    formats = None
    if asked is not None:
        formats = [asked if isinstance(x, Layer) else "" for x in layers]
    return network(layers, in_shape, MANY, threads, formats)[0]


def _activated(x: numpy.ndarray, layers: Sequence[Activation]) -> numpy.ndarray:
    x = x.copy()
    for layer in layers:
        activate(x, layer.activation, axis=1)
    return x


def _recurrence(
    layer: Recurrent, place: int, threads: int, asked: str | None
) -> SequenceNetwork:
    upward, lateral = (_network([x], threads, asked) for x in layer.matrices)
    units, size = layer.units, state_size(layer)
    cell = _cell(layer.cell)

    def run(x: numpy.ndarray, state: numpy.ndarray) -> numpy.ndarray:
        batch = len(state)
        z = upward(x).reshape(len(x) // batch, batch, -1)
        h = state[:, place : place + units].copy()
        c = state[
            :, place + units : place + size
        ].copy()  # of no columns if there is none
        hs = numpy.empty((len(z), batch, units), numpy.float32)
        for t in range(len(z)):
            cell(z[t], lateral(h), h, c)
            hs[t] = h
        state[:, place : place + units] = h
        state[:, place + units : place + size] = c
        return hs.reshape(len(x), units)

    return run


def _cell(name: str) -> Callable[..., Any]:
    """What makes the new states of a batch, in place."""
    if numba_or_none() is None:
        return {"lstm": _lstm, "gru": _gru, "tanh": _tanh}[name]
    from vdcore.backends.sparse.recurrent_kernels import cells

    call, kind = cells.compiled, CELLS.index(name)
    return lambda z, a, h, c: call(kind, z, a, h, c)


def _lstm(
    z: numpy.ndarray, a: numpy.ndarray, h: numpy.ndarray, c: numpy.ndarray
) -> None:
    i, f, g, o = numpy.split(z + a, 4, axis=1)
    for gate in (i, f, o):
        activate(gate, "sigmoid", axis=1)
    c *= f
    c += i * numpy.tanh(g)
    numpy.multiply(o, numpy.tanh(c), out=h)


def _gru(
    z: numpy.ndarray, a: numpy.ndarray, h: numpy.ndarray, c: numpy.ndarray
) -> None:
    (zr, zu, zn), (ar, au, an) = (numpy.split(x, 3, axis=1) for x in (z, a))
    reset, update = zr + ar, zu + au
    activate(reset, "sigmoid", axis=1)
    activate(update, "sigmoid", axis=1)
    candidate = numpy.tanh(zn + reset * an)
    h -= candidate
    h *= update
    h += candidate


def _tanh(
    z: numpy.ndarray, a: numpy.ndarray, h: numpy.ndarray, c: numpy.ndarray
) -> None:
    numpy.tanh(z + a, out=h)
