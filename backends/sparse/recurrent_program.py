"""Layers of a sparse model of sequences as arrays that the compiled kernel reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from scipy.sparse import csr_array

from vdcore.backends.cpu.team import team
from vdcore.backends.sparse.layer import ACTIVATIONS, Activation, Stage
from vdcore.backends.sparse.recurrent_kernels import (
    ACTIVATION,
    AFFINE,
    COLUMNS,
    EMBEDDING,
    ROWS,
    run,
)
from vdcore.backends.sparse.recurrent_layers import CELLS, Embedding, Recurrent
from vdcore.backends.sparse.recurrent_runtime import (
    SequenceNetwork,
    is_mostly_dense,
    matrices,
    state_size,
)

PARALLEL_FROM = 40_000  # weights of a product; fewer are done before a thread starts


def compiled_steps(
    layers: Sequence[Stage], dense_from: float, threads: int
) -> SequenceNetwork:
    """All layers by one compiled call, one row after the other.

    Parameters
    ----------
    layers : sequence of Stage
        As ``shrink_recurrent`` returns them.
    dense_from : float
        Share of a row's weights from which all are multiplied, those that were pruned
        too: they need no indices.
    threads : int
    """
    weights = _Weights(dense_from, threads)
    steps: list[list[int]] = []
    place = size = 0
    before: Any = None
    for layer in layers:
        number, activation = len(weights.matrices), ACTIVATIONS.index(layer.activation)
        for matrix in matrices(layer):
            # Of an input that is mostly zeros only what the others meet.
            is_first = number == len(weights.matrices)
            by_columns = is_first and _is_sparse_table(before) and dense_from > 0
            weights.append(COLUMNS if by_columns else ROWS, matrix.W, matrix.b)
        if isinstance(layer, Embedding):
            weights.append(ROWS, layer.W)
            kind, size = EMBEDDING, layer.W.shape[1]
        elif isinstance(layer, Recurrent):
            kind, size = CELLS.index(layer.cell), layer.units
        elif isinstance(layer, Activation):
            kind = ACTIVATION
        else:
            kind, size = AFFINE, matrix.W.shape[0]
        steps.append([kind, size, number, activation, place])
        place += state_size(layer) if isinstance(layer, Recurrent) else 0
        before = layer
    return _caller(numpy.asarray(steps, numpy.int64), weights, threads)


def _is_sparse_table(layer: Any) -> bool:
    return isinstance(layer, Embedding) and not is_mostly_dense(layer)


def _caller(steps: numpy.ndarray, weights: _Weights, threads: int) -> SequenceNetwork:
    arrays = (steps, *weights.arrays())
    parts = max(matrix[-1] for matrix in weights.matrices)
    out_size, room = int(steps[-1, 1]), max(weights.room, int(steps[:, 1].max()))
    call = run.compiled
    no_ids, no_rows = numpy.empty(0, numpy.int64), numpy.empty((0, 0), numpy.float32)

    def network(x: numpy.ndarray, state: numpy.ndarray) -> numpy.ndarray:
        out = numpy.empty((len(x), out_size), numpy.float32)
        given = (x, no_rows) if x.ndim == 1 else (no_ids, x)
        call(team(parts, threads), *arrays, *given, state, out, room)
        return out

    return network


class _Weights:
    """Matrices one after the other; see :func:`recurrent_kernels.run`."""

    def __init__(self, dense_from: float, threads: int) -> None:
        self.dense_from = dense_from
        self.threads = threads
        self.room = 1  # the largest number of rows or columns, but of tables
        self.matrices: list[list[int]] = []
        self.indptr: list[numpy.ndarray] = []
        self.indices: list[numpy.ndarray] = []
        self.values: list[numpy.ndarray] = []
        self.biases: list[numpy.ndarray] = []

    def append(self, form: int, W: Any, b: numpy.ndarray | None = None) -> None:
        """Append a matrix and its biases; without them it is a table."""
        parts, bias = 1, sum(map(len, self.biases))
        if b is not None:
            self.biases.append(b)
            self.room = max(self.room, *W.shape)
            if W.nnz >= PARALLEL_FROM and self.threads > 1:
                parts = 2 * self.threads  # one that starts late leaves more to others
        start = sum(map(len, self.indptr))
        self.matrices.append([form, *W.shape, start, bias, parts])
        W = W.tocsc() if form == COLUMNS else with_full_rows(W, self.dense_from)
        self.indptr.append(W.indptr + sum(map(len, self.values)))
        self.indices.append(W.indices)
        self.values.append(W.data)

    def arrays(self) -> tuple[numpy.ndarray, ...]:
        """Arguments of the kernel, from `matrices` to `biases`."""
        return (
            numpy.asarray(self.matrices, numpy.int64),
            _joined(self.indptr, numpy.int64),
            _joined(self.indices, numpy.uint32),
            _joined(self.values, numpy.float32),
            _joined(self.biases, numpy.float32),
        )


def with_full_rows(W: csr_array, dense_from: float) -> csr_array:
    """The matrix with all weights, those that are 0 too, of rows that have many."""
    W.sort_indices()
    columns, counts = W.shape[1], numpy.diff(W.indptr)
    full = counts >= dense_from * columns
    stored = numpy.where(full, columns, counts)
    of_full, kept = numpy.repeat(full, stored), numpy.repeat(~full, counts)
    values = numpy.empty(len(of_full), W.dtype)
    indices = numpy.empty(len(of_full), W.indices.dtype)
    values[of_full] = W[full].toarray().ravel()
    indices[of_full] = numpy.tile(numpy.arange(columns), numpy.count_nonzero(full))
    values[~of_full], indices[~of_full] = W.data[kept], W.indices[kept]
    indptr = numpy.concatenate([[0], numpy.cumsum(stored)])
    return csr_array((values, indices, indptr), shape=W.shape)


def _joined(arrays: list[numpy.ndarray], dtype: Any) -> numpy.ndarray:
    return numpy.concatenate([numpy.empty(0, dtype), *arrays]).astype(dtype)
