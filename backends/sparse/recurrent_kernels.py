"""The compiled steps of a sparse recurrent network: all its layers in one call.

One example goes through all layers of a step before the next one starts: its numbers
stay in the first-level cache, and the weights, which do not, are read once a step.
"""

from __future__ import annotations

import numpy
from numba import types

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.team import parallel_for
from vdcore.backends.cpu.vector_math import sigmoid, tanh
from vdcore.backends.sparse.kernels import SOFTMAX, activate, softmax
from vdcore.backends.sparse.recurrent_layers import CELLS
from vdcore.backends.sparse.slice_kernels import multiply_share

# mypy: ignore-errors
# Numba gives these functions their types.

f = numpy.float32
u = numpy.uint64  # an index that might be negative costs a test each time

# Kinds of a step, after those of recurrent ones.
LSTM, GRU, TANH = range(len(CELLS))
EMBEDDING, AFFINE, ACTIVATION = range(len(CELLS), len(CELLS) + 3)
# How the kept weights of a matrix are stored: row by row, to look up (one that has as
# many as there are columns has all of them, in order); column by column, for an input
# that is mostly zeros; in slices, for any other.
ROWS, COLUMNS, SLICES = range(3)


@jit()
def cell(kind, z, a, h, c):
    """Make the new state of one example, in place.

    Parameters
    ----------
    kind : int
        LSTM, GRU or TANH.
    z, a : array, shape (gates * units,)
        What input and hidden state add to the gates, biases included.
    h, c : array, shape (units,)
        State; `c` is that of an LSTM only.
    """
    n = h.size
    if kind == LSTM:
        zi, zf, zg, zo = z[:n], z[n : 2 * n], z[2 * n : 3 * n], z[3 * n :]
        ai, af, ag, ao = a[:n], a[n : 2 * n], a[2 * n : 3 * n], a[3 * n :]
        for j in range(n):
            new = sigmoid(zi[j] + ai[j]) * tanh(zg[j] + ag[j])
            c[j] = sigmoid(zf[j] + af[j]) * c[j] + new
            h[j] = sigmoid(zo[j] + ao[j]) * tanh(c[j])
    elif kind == GRU:
        zr, zu, zn = z[:n], z[n : 2 * n], z[2 * n :]
        ar, au, an = a[:n], a[n : 2 * n], a[2 * n :]
        for j in range(n):
            update = sigmoid(zu[j] + au[j])
            candidate = tanh(zn[j] + sigmoid(zr[j] + ar[j]) * an[j])
            h[j] = candidate + update * (h[j] - candidate)
    else:
        for j in range(n):
            h[j] = tanh(z[j] + a[j])


@jit()
def cells(kind, z, a, h, c):
    """As :func:`cell`, for a batch."""
    for row in range(len(z)):
        cell(kind, z[row], a[row], h[row], c[row])


@jit()
def product_part(
    matrix, shares, rows, values, places, runs, biases, x, y, part
):  # fmt: skip
    """Compute one share of a product."""
    multiply_share(
        matrix[3] + part, shares, rows, values, places, runs, biases, matrix[2], x, y
    )


@jit()
def product(
    board, matrix, indptr, indices, values, biases, shares, rows, places, runs, x, y,
):  # fmt: skip
    """Compute a matrix times `x` plus biases, by several threads if it is large."""
    if matrix[0] == COLUMNS:
        for o in range(matrix[1]):
            y[o] = biases[matrix[4] + o]
        for j in range(matrix[2]):
            scale = x[j]
            if scale != f(0):
                q = u(indptr[matrix[3] + j])
                end = u(indptr[matrix[3] + j + 1])
                while q < end:
                    y[indices[q]] += values[q] * scale
                    q += u(1)
        return
    weights = (shares, rows, values, places, runs, biases)
    if matrix[5] == 0:
        for share in range(matrix[4]):
            product_part(matrix, *weights, x, y, share)
    else:
        parallel_for(board, matrix[4], product_part, (matrix, *weights, x, y))


@jit()
def look_up(matrix, indptr, indices, values, number, y):
    """Copy a row of a table."""
    columns = matrix[2]
    first, end = indptr[matrix[3] + number], indptr[matrix[3] + number + 1]
    if end - first == columns:
        y[:columns] = values[first:end]
    else:
        y[:columns] = f(0)
        for q in range(first, end):
            y[indices[q]] = values[q]


def _readonly(dtype, ndim):
    return types.Array(dtype, ndim, "C", readonly=True)


@jit(
    types.void(
        types.int64[::1],
        _readonly(types.int64, 2),
        _readonly(types.int64, 2),
        _readonly(types.int64, 1),
        _readonly(types.uint32, 1),
        _readonly(types.float32, 1),
        _readonly(types.float32, 1),
        _readonly(types.int64, 2),
        _readonly(types.uint32, 1),
        _readonly(types.uint8, 1),
        _readonly(types.uint32, 1),
        _readonly(types.int64, 1),
        _readonly(types.float32, 2),
        types.float32[:, ::1],
        types.float32[:, ::1],
        types.int64,
    )
)
def run(
    board, steps, matrices, indptr, indices, values, biases, shares, rows, places,
    runs, ids, x, state, out, room,
):  # fmt: skip
    """Take a sequence through the layers, one example and step after the other.

    Parameters
    ----------
    board : array
        Of the team; see :mod:`vdcore.backends.cpu.team`.
    steps : array of int64, shape (layers, 5)
        Kind, size of the output, number of the (first) matrix, activation, and place
        of `h` in a state, after which comes `c`.
    matrices : array of int64, shape (matrices, 6)
        How it is stored, rows, and columns; where its row or column pointers start in
        `indptr` and its biases in `biases`. Of one in slices: its first share, the
        number of its shares, and whether these are shared by threads.
    indptr, indices, values, biases : array
        The matrices.
    shares, rows, places, runs : array
        Those in slices; see :func:`slice_kernels.multiply_share`. Their biases are in
        the order of `rows`.
    ids : array of int64, shape (time * batch,)
        Rows of the embedding, if the first layer is one.
    x : array, shape (time * batch, in_size)
        Input of the first layer otherwise.
    state : array, shape (batch, numbers)
        Changed in place.
    out : array, shape (time * batch, out_size)
    room : int
        The largest size of a layer's input, output or gates.
    """
    memory = numpy.empty((4, room), numpy.float32)
    here, there, z, a = memory[0], memory[1], memory[2], memory[3]
    weights = (indptr, indices, values)
    all_weights = (*weights, biases, shares, rows, places, runs)
    batch = len(state)
    last = len(steps) - 1
    for row in range(len(out)):
        own = state[row % batch]
        if steps[0, 0] != EMBEDDING:
            here[: x.shape[1]] = x[row]
        for k in range(len(steps)):
            kind, size, number = steps[k, 0], steps[k, 1], steps[k, 2]
            if kind == EMBEDDING:
                look_up(matrices[number], *weights, ids[row], here)
            elif kind == AFFINE:
                y = out[row] if k == last else there
                product(board, matrices[number], *all_weights, here, y)
                activate(y[:size], steps[k, 3])
                if k != last:
                    here, there = there, here
            elif kind == ACTIVATION:
                activate(here[:size], steps[k, 3])
            else:
                place = steps[k, 4]
                h = own[place : place + size]
                c = own[place + size :]
                product(board, matrices[number], *all_weights, here, z)
                product(board, matrices[number + 1], *all_weights, h, a)
                gates = matrices[number, 1]
                cell(kind, z[:gates], a[:gates], h, c)
                here[:size] = h
        if steps[last, 0] != AFFINE:
            out[row] = here[: out.shape[1]]
        if steps[last, 3] == SOFTMAX:
            softmax(out[row])
