"""A sparse matrix in slices of rows, for its product with one vector.

Sliced ELLPACK (SELL-C-sigma; Kreutzer et al., 2014): each lane of a vector register
sums one row of a slice, so that no row has a beginning, an end and a sum across lanes
of its own. Shorter rows of a slice are filled up with zeros; rows that are alike share
one, so these are few. The columns are taken in parts of which the numbers of the vector
fit in registers, where a lane picks its own out four times as fast as from memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy
from scipy.sparse import csr_array

LANES = 16  # rows of a slice: float32 values in a register of AVX-512
TABLE = 128  # columns whose numbers are in registers at once: eight of AVX-512


@dataclass(frozen=True)
class Share:
    """Consecutive rows of a matrix, as the kernel of :mod:`slice_kernels` reads them.

    Attributes
    ----------
    full : int
        How many rows have all their weights stored; the others are in slices.
    slices : int
    rows : array of int64
        Which rows of the matrix these are, full ones first.
    values : array of float32
        Weights: of full rows all, in order; of slices LANES at a time, in the order of
        `runs`.
    places : array of uint8
        Columns of the weights of slices, counted from the first one of the table.
    runs : array of int64
        For each table the number of runs, and for each run how many weights a row has
        in it, the number of its slices, and the slices.
    """

    full: int
    slices: int
    rows: numpy.ndarray
    values: numpy.ndarray
    places: numpy.ndarray
    runs: numpy.ndarray


def shares(W: csr_array, full_from: float, parts: int) -> list[Share]:
    """Divide a matrix into shares that threads may compute at once.

    Parameters
    ----------
    W : csr_array of float32
        With sorted indices.
    full_from : float
        Share of a row's weights from which all are multiplied, in order, those that
        were pruned too: they need no indices.
    parts : int
        How many shares of about as many weights there are to be; fewer of few rows.
    """
    # Of whole cache lines of results, as each takes long to go from thread to thread.
    lines = numpy.arange(0, len(W.indptr), LANES)
    weights = W.indptr[lines]
    wanted = numpy.arange(1, parts) * (W.nnz / parts)
    inner = lines[numpy.searchsorted(weights, wanted, side="right") - 1]
    edges = numpy.unique([0, *inner, W.shape[0]])
    return [_share(W, full_from, first, last) for first, last in pairwise(edges)]


def _share(W: csr_array, full_from: float, first: int, last: int) -> Share:
    W = W[first:last]
    is_full = numpy.diff(W.indptr) >= full_from * W.shape[1]
    full, rows = numpy.flatnonzero(is_full), numpy.flatnonzero(~is_full)
    of_full = W[full].toarray().ravel()
    W = W[rows]

    # Number of weights by row and table; the same in the order of the slices.
    tables = -(-W.shape[1] // TABLE)
    row = numpy.repeat(numpy.arange(len(rows)), numpy.diff(W.indptr))
    table = W.indices // TABLE
    counts = numpy.zeros((len(rows), tables), numpy.int64)
    numpy.add.at(counts, (row, table), 1)
    order = _alike(counts)
    number = -(-len(rows) // LANES)
    depths = numpy.zeros((number * LANES, tables), numpy.int64)
    depths[: len(rows)] = counts[order]
    depths = depths.reshape(number, LANES, tables).max(axis=1)

    # Blocks: what a slice has in a table. They go by table, then by depth.
    starts = numpy.empty((number, tables), numpy.int64)
    runs: list[int] = []
    size = 0
    for k in range(tables):
        by_depth = numpy.argsort(depths[:, k], kind="stable")
        ends = size + LANES * numpy.cumsum(depths[by_depth, k])
        starts[by_depth, k] = ends - LANES * depths[by_depth, k]
        size = int(ends[-1]) if number else size
        lengths, firsts = numpy.unique(depths[by_depth, k], return_index=True)
        runs.append(int(numpy.count_nonzero(lengths)))
        bounds = pairwise([*firsts, number])
        for length, (begin, end) in zip(lengths, bounds, strict=True):
            if length:
                runs += [int(length), int(end - begin), *by_depth[begin:end].tolist()]

    # The place of each weight: where its block starts, its number in it, its lane.
    position = numpy.empty(len(rows), numpy.int64)
    position[order] = numpy.arange(len(rows))
    earlier = numpy.cumsum(counts, axis=1) - counts + W.indptr[:-1, None]
    within = numpy.arange(W.nnz) - earlier[row, table]
    target = starts[position[row] // LANES, table]
    target += LANES * within + position[row] % LANES
    values = numpy.zeros(size, numpy.float32)
    places = numpy.zeros(size, numpy.uint8)
    values[target], places[target] = W.data, W.indices % TABLE
    return Share(
        len(full),
        number,
        first + numpy.concatenate([full, rows[order]]),
        numpy.concatenate([of_full, values]),
        places,
        numpy.asarray(runs, numpy.int64),
    )


def _alike(counts: numpy.ndarray) -> numpy.ndarray:
    """Order rows so that consecutive ones have about as many weights in each table.

    They are halved again and again by the table in which they differ most, down to
    slices; a slice that is not full comes last.
    """
    order = numpy.arange(len(counts))

    def sort(start: int, end: int) -> None:
        number = -(-(end - start) // LANES)
        if number < 2:
            return
        part = counts[order[start:end]]
        by = part[:, part.var(axis=0).argmax()]
        order[start:end] = order[start:end][numpy.argsort(by, kind="stable")]
        middle = start + LANES * (number // 2)
        sort(start, middle)
        sort(middle, end)

    if counts.shape[1]:
        sort(0, len(counts))
    return order
