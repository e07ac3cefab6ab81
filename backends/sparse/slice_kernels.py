"""The product of a matrix in slices with one vector."""

from __future__ import annotations

import numpy
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.lanes import indices
from vdcore.backends.cpu.vectors import load, store
from vdcore.backends.sparse.slices import LANES, TABLE

# mypy: ignore-errors
# Numba gives these functions their types, and intrinsics their arguments.

u = numpy.uint64  # an index that might be negative costs a test each time

# Of the processor that numba compiles for, by which it also keeps compiled code.
FEATURES = cpu_target.target_context.codegen().magic_tuple()[2]
PICKS_FROM_REGISTERS = "+avx512f" in FEATURES
# Share of a row's weights from which it takes less time to multiply all: they take
# 0.055 ns each, those of slices 0.08, or 0.37 where numbers are picked from memory.
FULL_FROM = 0.6 if PICKS_FROM_REGISTERS else 0.15

_INT, _FLOAT = ir.IntType(32), ir.FloatType()
_VALUES, _INDICES = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


@jit()
def multiply_share(share, shares, rows, values, places, runs, biases, columns, x, y):
    """Compute what one share of a matrix times `x` is, plus biases.

    Parameters
    ----------
    share : int
        Number of it, in all arrays that follow.
    shares : array of int64, shape (shares, 7)
        Of each :class:`~vdcore.backends.sparse.slices.Share` the number of full rows,
        of slices, of all rows, and where it begins in `rows`, `values`, `places` and
        `runs`.
    rows, values, places, runs : array
        Those of the shares, one after the other.
    biases : array
        In the order of `rows`; there are LANES more numbers at its end.
    columns : int
        Of the matrix.
    x : array of float32, shape (columns,) or longer
    y : array of float32
    """
    full, slices = u(shares[share, 0]), u(shares[share, 1])
    r = u(shares[share, 3])
    end = r + u(shares[share, 2])
    q, p, k = u(shares[share, 4]), u(shares[share, 5]), u(shares[share, 6])
    width = u(columns)
    for _ in range(full):
        total = biases[r]
        row = values[q : q + width]
        for j in range(width):
            total += row[j] * x[j]
        y[rows[r]] = total
        r += u(1)
        q += width
    sums = biases[r : r + slices * u(LANES)].copy()
    for start in range(0, columns, TABLE):
        here = x[start:]
        if columns - start < TABLE:
            here = numpy.zeros(TABLE, numpy.float32)
            here[: columns - start] = x[start:columns]
        table = load(here, u(0), TABLE)
        count = runs[k]
        k += u(1)
        for _ in range(count):
            depth, number = u(runs[k]), u(runs[k + u(1)])
            k += u(2)
            for place in range(k, k + number):
                first = u(runs[place]) * u(LANES)
                total = load(sums, first, LANES)
                for _ in range(depth):
                    total = add_picked(total, values, q, table, here, places, p)
                    q += u(LANES)
                    p += u(LANES)
                store(sums, first, total)
            k += number
    for j in range(end - r):
        y[rows[r + j]] = sums[j]


@intrinsic
def add_picked(typing_context, total, values, q, table, x, places, p):
    """``total + values[q : q + LANES] * x[places[p : p + LANES]]``.

    `table` holds the first TABLE numbers of `x`.
    """

    def generate(context, builder, signature, args):
        total, _, q, table, _, _, p = args
        values, x, places = (
            context.make_array(signature.args[k])(context, builder, args[k]).data
            for k in (1, 4, 5)
        )
        weights = _load(builder, values, q, _VALUES)
        place = _load(builder, places, p, ir.VectorType(ir.IntType(8), LANES))
        place = builder.zext(place, _INDICES)
        pick = _from_registers if PICKS_FROM_REGISTERS else _from_memory
        product = builder.fmul(
            weights, pick(builder, table, x, place), flags=("contract",)
        )
        return builder.fadd(total, product, flags=("contract",))

    number = types.uint64
    return total(total, values, number, table, x, places, number), generate


def _load(builder, data, offset, vector):
    address = builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())
    return builder.load(address, align=1)


def _from_registers(builder, table, x, place):
    """Of each pair of registers what the last bits say, and of these the others'."""
    parts = [
        builder.shuffle_vector(table, table, indices(list(range(first, first + LANES))))
        for first in range(0, TABLE, LANES)
    ]
    permutation = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_VALUES, [_VALUES, _INDICES, _VALUES]),
        "llvm.x86.avx512.vpermi2var.ps.512",
    )
    picked = [
        builder.call(permutation, [low, place, high])
        for low, high in zip(parts[::2], parts[1::2], strict=True)
    ]
    bit = 2 * LANES
    while len(picked) > 1:
        bits = builder.and_(place, ir.Constant(_INDICES, [bit] * LANES))
        is_high = builder.icmp_signed("!=", bits, ir.Constant(_INDICES, [0] * LANES))
        picked = [
            builder.select(is_high, high, low)
            for low, high in zip(picked[::2], picked[1::2], strict=True)
        ]
        bit *= 2
    return picked[0]


def _from_memory(builder, table, x, place):
    picked = ir.Constant(_VALUES, ir.Undefined)
    for lane in range(LANES):
        index = builder.zext(builder.extract_element(place, _INT(lane)), ir.IntType(64))
        number = builder.load(builder.gep(x, [index]))
        picked = builder.insert_element(picked, number, _INT(lane))
    return picked
