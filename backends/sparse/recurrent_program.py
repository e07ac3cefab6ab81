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
    SLICES,
    run,
)
from vdcore.backends.sparse.recurrent_layers import CELLS, Embedding, Recurrent
from vdcore.backends.sparse.recurrent_runtime import (
    SequenceNetwork,
    is_mostly_dense,
    matrices,
    state_size,
)
from vdcore.backends.sparse.slices import LANES, shares

PARALLEL_FROM = 40_000  # weights of a product; fewer are done before a thread starts


def compiled_steps(
    layers: Sequence[Stage], full_from: float, threads: int
) -> SequenceNetwork:
    """All layers by one compiled call, one row after the other.

    Parameters
    ----------
    layers : sequence of Stage
        As ``shrink_recurrent`` returns them.
    full_from : float
        Share of a row's weights from which all are multiplied, those that were pruned
        too: they need no indices.
    threads : int
    """
    weights = _Weights(full_from, threads)
    steps: list[list[int]] = []
    place = size = 0
    before: Any = None
    for layer in layers:
        number, activation = len(weights.matrices), ACTIVATIONS.index(layer.activation)
        for matrix in matrices(layer):
            # Of an input that is mostly zeros only what the others meet.
            is_first = number == len(weights.matrices)
            if is_first and _is_sparse_table(before) and full_from > 0:
                weights.append_columns(matrix.W, matrix.b)
            else:
                weights.append_slices(matrix.W, matrix.b)
        if isinstance(layer, Embedding):
            weights.append_table(layer.W)
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
    parts = max(matrix[4] * matrix[5] for matrix in weights.matrices)
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

    def __init__(self, full_from: float, threads: int) -> None:
        self.full_from = full_from
        self.threads = threads
        self.room = 1  # the largest number of rows or columns, but of tables
        self.matrices: list[list[int]] = []
        self.indptr = _Joined(numpy.int64)
        self.indices = _Joined(numpy.uint32)
        self.values = _Joined(numpy.float32)
        self.biases = _Joined(numpy.float32)
        self.shares = _Joined(numpy.int64, 7)
        self.rows = _Joined(numpy.uint32)
        self.places = _Joined(numpy.uint8)
        self.runs = _Joined(numpy.uint32)

    def append_table(self, W: csr_array) -> None:
        """Append a matrix whose rows are looked up."""
        self._append(ROWS, W.shape, with_full_rows(W, self.full_from))

    def append_columns(self, W: csr_array, b: numpy.ndarray) -> None:
        """Append a matrix, of which an input that is mostly zeros meets few columns."""
        self.room = max(self.room, *W.shape)
        self._append(COLUMNS, W.shape, W.tocsc())
        self.rows.append(numpy.arange(len(b)))
        self.biases.append(b)

    def _append(self, form: int, shape: tuple[int, int], compressed: Any) -> None:
        self.matrices.append([form, *shape, self.indptr.size, self.biases.size, 0])
        self.indptr.append(compressed.indptr + self.values.size)
        self.indices.append(compressed.indices)
        self.values.append(compressed.data)

    def append_slices(self, W: csr_array, b: numpy.ndarray) -> None:
        """Append any other matrix."""
        self.room = max(self.room, *W.shape)
        shared = W.nnz >= PARALLEL_FROM and self.threads > 1
        # One that starts late leaves more to others.
        own = shares(W, self.full_from, 2 * self.threads if shared else 1)
        first = self.shares.size
        self.matrices.append([SLICES, *W.shape, first, len(own), int(shared)])
        for each in own:
            starts = [x.size for x in (self.rows, self.values, self.places, self.runs)]
            counts = [each.full, each.slices, len(each.rows)]
            self.shares.append(numpy.asarray([counts + starts]))
            self.rows.append(each.rows)
            self.biases.append(b[each.rows])
            self.values.append(each.values)
            self.places.append(each.places)
            self.runs.append(each.runs)

    def arrays(self) -> tuple[numpy.ndarray, ...]:
        """Arguments of the kernel, from `matrices` to `runs`."""
        self.biases.append(numpy.zeros(LANES))  # a slice reads beyond its last row
        joined = (
            *(self.indptr, self.indices, self.values, self.biases),
            *(self.shares, self.rows, self.places, self.runs),
        )
        matrices = numpy.asarray(self.matrices, numpy.int64)
        return matrices, *(each.array() for each in joined)


def with_full_rows(W: csr_array, full_from: float) -> csr_array:
    """The matrix with all weights, those that are 0 too, of rows that have many."""
    W.sort_indices()
    columns, counts = W.shape[1], numpy.diff(W.indptr)
    full = counts >= full_from * columns
    stored = numpy.where(full, columns, counts)
    of_full, kept = numpy.repeat(full, stored), numpy.repeat(~full, counts)
    values = numpy.empty(len(of_full), W.dtype)
    indices = numpy.empty(len(of_full), W.indices.dtype)
    values[of_full] = W[full].toarray().ravel()
    indices[of_full] = numpy.tile(numpy.arange(columns), numpy.count_nonzero(full))
    values[~of_full], indices[~of_full] = W.data[kept], W.indices[kept]
    indptr = numpy.concatenate([[0], numpy.cumsum(stored)])
    return csr_array((values, indices, indptr), shape=W.shape)


class _Joined:
    """Arrays one after the other, of numbers or of rows of them."""

    def __init__(self, dtype: Any, *row: int) -> None:
        self.parts = [numpy.empty((0, *row), dtype)]
        self.size = 0

    def append(self, array: numpy.ndarray) -> None:
        self.parts.append(array)
        self.size += len(array)

    def array(self) -> numpy.ndarray:
        return numpy.concatenate(self.parts).astype(self.parts[0].dtype)
