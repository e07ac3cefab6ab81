"""Matrices turned round: squares in registers, large ones by all threads."""

from __future__ import annotations

import numpy
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.lanes import indices
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.team import parallel_for, team

# mypy: ignore-errors
# Numba gives intrinsics their arguments.

LARGE = 2**18  # numbers; NumPy is as fast at fewer
LINE = 16  # numbers in a cache line
SIDE = 8  # rows and columns of a square
u = numpy.uint64


def contiguous(x: numpy.ndarray) -> numpy.ndarray:
    """As ``numpy.ascontiguousarray``."""
    turnable = x.ndim == 2 and x.T.flags.c_contiguous and x.dtype == numpy.float32
    if x.flags.c_contiguous or not turnable or x.size < LARGE:
        return numpy.ascontiguousarray(x)
    turned = empty(x.shape)
    parts = -(-len(x) // LINE)
    _turn(team(parts), parts, x.T, turned)
    return turned


@jit()
def _turn(board, parts, x, turned):
    parallel_for(board, parts, _turn_part, (x, turned))


@jit()
def _turn_part(x, turned, part):
    left, right = part * LINE, min((part + 1) * LINE, len(turned))
    whole = len(x) // LINE * LINE
    for top in range(0, whole, LINE):
        for column in range(left, right):
            for row in range(LINE):
                turned[column, u(top + row)] = x[u(top + row), column]
    for row in range(whole, len(x)):
        for column in range(left, right):
            turned[column, row] = x[row, column]


def address(context, builder, array_type, array, offset, vector):
    """Where a vector lies that begins so many numbers after the first of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())


@intrinsic
def transpose(typing_context, source, start, pitch, target, to, to_pitch):
    """Copy a square of SIDE rows and columns, transposed; offsets are not checked.

    Row r of the square starts ``start + r * pitch`` values into the array `source`; its
    column c goes to ``to + c * to_pitch`` values into the array `target`.
    """
    vector = ir.VectorType(ir.FloatType(), SIDE)

    def generate(context, builder, signature, args):
        def pointers(array_type, array, first, step):
            for number in range(SIDE):
                offset = builder.add(first, builder.mul(step, step.type(number)))
                yield address(context, builder, array_type, array, offset, vector)

        sources = pointers(source, *args[:3])
        rows = [builder.load(pointer, align=4) for pointer in sources]
        for half in (SIDE // 2, SIDE // 4, SIDE // 8):
            # Swap the off-diagonal quarters of squares of side 2 * half.
            left = [c + (SIDE - half if c & half else 0) for c in range(SIDE)]
            right = indices([c + half for c in left])
            for r in range(SIDE):
                if not r & half:
                    pair = rows[r], rows[r + half]
                    rows[r] = builder.shuffle_vector(*pair, indices(left))
                    rows[r + half] = builder.shuffle_vector(*pair, right)
        targets = pointers(target, *args[3:])
        for row, pointer in zip(rows, targets, strict=True):
            builder.store(row, pointer, align=4)
        return context.get_dummy_value()

    number = types.uint64
    return types.void(source, number, number, target, number, number), generate
