"""The compiled forward of a sparse network: all its layers in one call.

A block of examples goes through all layers before the next block starts, so that its
activations stay in the first-level cache. Inside a block they are feature-major, and a
vector register holds one feature of all examples of the block.
"""

from __future__ import annotations

import numpy
from numba import types

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.team import parallel_for
from vdcore.backends.cpu.transposition import SIDE, transpose
from vdcore.backends.cpu.vector_math import exp
from vdcore.backends.cpu.vectors import add_scaled, load, splat, store
from vdcore.backends.sparse.layer import ACTIVATIONS

# mypy: ignore-errors
# Numba gives these functions their types.

f = numpy.float32
i = numpy.int32
u = numpy.uint64  # an index that might be negative costs a test each time

WIDTHS = (16, 32)  # examples in a block: one or two registers of AVX-512
LINE = 16  # float32 values in a cache line
_, RELU, TANH, SIGMOID, SOFTMAX = range(len(ACTIVATIONS))


@jit()
def activate(values, activation):
    """Apply an elementwise activation in place."""
    if activation == RELU:
        for j in range(values.size):
            values[j] = f(0) if values[j] < f(0) else values[j]
    elif activation == TANH:
        for j in range(values.size):
            values[j] = f(1) - f(2) / (f(1) + exp(f(2) * values[j]))
    elif activation == SIGMOID:
        for j in range(values.size):
            values[j] = f(1) / (f(1) + exp(-values[j]))


@jit()
def softmax(values):
    """Replace one example's values by class probabilities."""
    top = values[0]
    for j in range(values.size):
        top = max(top, values[j])
    total = f(0)
    for j in range(values.size):
        values[j] = exp(values[j] - top)
        total += values[j]
    for j in range(values.size):
        values[j] /= total


@jit()
def read(x, runs, row, count, width, here):
    """Copy the columns of `runs` of `count` rows of `x`, feature-major."""
    pitch = u(x.shape[1])
    first = u(row) * pitch
    if pitch < u(SIDE) or 1 < count < width:
        for k in range(runs.size):
            for c in range(min(SIDE, x.shape[1])):
                for j in range(count):
                    here[(k * SIDE + c) * width + j] = x[row + j, runs[k] + c]
    elif width == 1:
        for k in range(u(runs.size)):
            store(here, k * u(SIDE), load(x, first + u(runs[k]), SIDE))
    else:
        for k in range(u(runs.size)):
            for j in range(u(0), u(width), u(SIDE)):
                start = first + j * pitch + u(runs[k])
                transpose(x, start, pitch, here, k * u(SIDE * width) + j, u(width))


def block_kernel(width):
    """Make the kernel that takes up to `width` examples through all layers."""

    @jit()
    def block(layers, indptr, indices, values, biases, here, there):
        q = r = u(0)
        for layer in range(layers.shape[0]):
            height = u(layers[layer, 0])
            for o in range(height):
                total = splat(biases[r], width)
                r += u(1)
                end = u(indptr[r])
                while q < end:
                    start = u(indices[q]) * u(width)
                    total = add_scaled(total, values[q], load(here, start, width))
                    q += u(1)
                store(there, o * u(width), total)
            activate(there[: height * u(width)], layers[layer, 1])
            here, there = there, here
        return here

    return block


narrow_block, wide_block = (block_kernel(width) for width in WIDTHS)


@jit()
def one_example(layers, indptr, indices, values, biases, here, there):
    """Take one example through all layers."""
    q = r = u(0)
    for layer in range(layers.shape[0]):
        height = u(layers[layer, 0])
        for o in range(height):
            total = biases[r]
            r += u(1)
            end = u(indptr[r])
            while q < end:
                total += values[q] * here[indices[q]]
                q += u(1)
            there[o] = total
        activate(there[:height], layers[layer, 1])
        here, there = there, here
    return here


@jit()
def block_width(examples):
    """How many examples to take together when so many are left."""
    if examples <= 2:
        return 1
    return WIDTHS[0] if examples <= WIDTHS[0] else WIDTHS[1]


def _readonly(dtype, ndim):
    return types.Array(dtype, ndim, "C", readonly=True)


@jit(
    types.void(
        _readonly(types.int64, 2),
        _readonly(types.int32, 1),
        _readonly(types.uint32, 1),
        _readonly(types.float32, 1),
        _readonly(types.float32, 1),
        _readonly(types.int64, 1),
        _readonly(types.float32, 2),
        types.float32[:, ::1],
        types.int64,
        types.int64,
    )
)
def run(layers, indptr, indices, values, biases, runs, x, out, first, last):
    """Take rows `first` to `last` of `x` through all layers, into those of `out`.

    Parameters
    ----------
    layers : array of int64, shape (layers, 2)
        Number of rows and activation of each.
    indptr, indices, values, biases : array
        The rows of all layers as one CSR matrix, with one bias a row.
    runs : array of int64
        First columns of the runs of SIDE columns of `x` that are read; the indices of
        the first layer count the columns of these runs.
    x, out : array of float32, shape (batch, in_size), (batch, out_size)
    first, last : int
    """
    height = runs.size * SIDE
    for layer in range(layers.shape[0]):
        height = max(height, layers[layer, 0])
    size = height * block_width(last - first)
    memory = numpy.empty(2 * size + LINE, numpy.float32)
    start = -(memory.ctypes.data // 4) % LINE  # no vector spans two cache lines
    here, there = memory[start : start + size], memory[start + size :]
    row = first
    while row < last:
        width = block_width(last - row)
        count = min(width, last - row)
        read(x, runs, row, count, width, here)
        if width == 1:
            result = one_example(layers, indptr, indices, values, biases, here, there)
        elif width == WIDTHS[0]:
            result = narrow_block(layers, indptr, indices, values, biases, here, there)
        else:
            result = wide_block(layers, indptr, indices, values, biases, here, there)
        for j in range(count):
            for o in range(out.shape[1]):
                out[row + j, o] = result[o * width + j]
            if layers[-1, 1] == SOFTMAX:
                softmax(out[row + j])
        row += width


@jit()
def run_in_parts(
    board, share, layers, indptr, indices, values, biases, runs, x, out
):  # fmt: skip
    """As :func:`run`, for all rows, `share` of them at a time."""
    arguments = (share, layers, indptr, indices, values, biases, runs, x, out)
    parallel_for(board, (len(x) + share - 1) // share, _run_part, arguments)


@jit()
def _run_part(share, layers, indptr, indices, values, biases, runs, x, out, part):
    last = min((part + 1) * share, len(x))
    run(layers, indptr, indices, values, biases, runs, x, out, part * share, last)
