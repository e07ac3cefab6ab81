"""Matrix products of few rows, whose results stay in vector registers while they grow.

Part of compiled kernels that do more than a product with each block of rows: what they
prepare for it and make of it never leaves the cache. Vector code is written out here,
because no compiler keeps so many sums in registers of its own accord.
"""

from __future__ import annotations

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils, errors
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.lanes import broadcast, leave_rolled

# mypy: ignore-errors
# Numba gives these functions their types, and intrinsics their arguments.


def _registers() -> tuple[int, int]:
    """Numbers of float32 in a vector register, and vectors in a row of sums."""
    # Of the processor that numba compiles for, by which it also keeps compiled code.
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    if "+avx512f" in features:
        return 16, 4
    if "+avx" in features:
        return 8, 2
    return (4, 4) if platform.machine().lower() in ("arm64", "aarch64") else (4, 2)


LANES, VECTORS = _registers()
ROWS = 6  # the sums, a line of `b` and a number of `a` fill the registers
BLOCK = LANES * VECTORS  # columns

_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_BYTES = ir.IntType(8).as_pointer()
_VECTOR = ir.VectorType(_FLOAT, LANES)


@jit()
def product(a, b, c):
    """``c[:] = a @ b`` with at most ROWS rows of `a` and at least LANES columns of `b`.

    All are float32. The numbers in a row of `b`, and of `c`, lie side by side; `a` may
    lie in any way. Some columns may be computed and written twice.
    """
    columns = b.shape[1]
    column = 0
    while columns - column >= BLOCK:
        _tile(a, b, c, column, VECTORS)
        column += BLOCK
    vectors = (columns - column + LANES - 1) // LANES
    column = columns - vectors * LANES
    if column < 0:
        _tile(a, b, c, 0, 1)
        vectors -= 1
        column += LANES
    if vectors == 1:
        _tile(a, b, c, column, 1)
    elif vectors == 2:
        _tile(a, b, c, column, 2)
    elif vectors == 3:
        _tile(a, b, c, column, 3)
    elif vectors == 4:
        _tile(a, b, c, column, 4)


@jit()
def scattered_product(a, b, start, rows, c):
    """As :func:`product`, with a right factor whose rows lie anywhere in `b`.

    Its row k is ``b[start + rows[k] : start + rows[k] + columns]`` of a flat `b`, with
    as many columns as `c` has. Rows may overlap, as those of a convolution do.
    """
    columns = c.shape[1]
    column = 0
    while columns - column >= BLOCK:
        _scattered_tile(a, b, start, rows, c, column, VECTORS)
        column += BLOCK
    vectors = (columns - column + LANES - 1) // LANES
    column = columns - vectors * LANES
    if column < 0:
        _scattered_tile(a, b, start, rows, c, 0, 1)
        vectors -= 1
        column += LANES
    if vectors == 1:
        _scattered_tile(a, b, start, rows, c, column, 1)
    elif vectors == 2:
        _scattered_tile(a, b, start, rows, c, column, 2)
    elif vectors == 3:
        _scattered_tile(a, b, start, rows, c, column, 3)
    elif vectors == 4:
        _scattered_tile(a, b, start, rows, c, column, 4)


@intrinsic(prefer_literal=True)
def _tile(typing_context, a, b, c, column, vectors):
    """``c[:, j : j + n] = a @ b[:, j : j + n]`` with n = vectors * LANES."""
    _require_float32(a, b, c)

    def generate(context, builder, signature, values):
        a, b, c = (
            context.make_array(array_type)(context, builder, value)
            for array_type, value in zip(signature.args[:3], values[:3], strict=True)
        )
        pitch, _ = cgutils.unpack_tuple(builder, b.strides, 2)
        left = builder.mul(values[3], _INT(4))
        start = builder.gep(builder.bitcast(b.data, _BYTES), [left])

        def line(step):
            return builder.gep(start, [builder.mul(step, pitch)])

        _outer_products(builder, a, line, c, left, vectors.literal_value)
        return context.get_dummy_value()

    return types.void(a, b, c, types.int64, vectors), generate


@intrinsic(prefer_literal=True)
def _scattered_tile(typing_context, a, b, start, rows, c, column, vectors):
    """As `_tile`, with the rows of the right factor at places of the flat `b`."""
    _require_float32(a, b, c)

    def generate(context, builder, signature, values):
        a, b, rows, c = (
            context.make_array(signature.args[k])(context, builder, values[k])
            for k in (0, 1, 3, 4)
        )
        left = builder.mul(values[5], _INT(4))
        first = builder.gep(b.data, [builder.add(values[2], values[5])])

        def line(step):
            place = builder.load(builder.gep(rows.data, [step]))
            return builder.bitcast(builder.gep(first, [place]), _BYTES)

        _outer_products(builder, a, line, c, left, vectors.literal_value)
        return context.get_dummy_value()

    signature = types.void(a, b, types.int64, rows, c, types.int64, vectors)
    return signature, generate


def _require_float32(*matrices):
    if not all(x.dtype == types.float32 for x in matrices):
        message = f"product: matrices must be of float32, got {matrices}"
        raise errors.TypingError(message)


def _outer_products(builder, a, line, c, left, vectors):
    """Sum ``a[:, step] outer line(step)`` over all steps, and store the sums in `c`.

    `line` gives the address of `vectors` vectors of the right factor; the sums go into
    `c` from `left` bytes into its rows on.
    """
    (a_row, a_step), (c_row, _) = (
        cgutils.unpack_tuple(builder, array.strides, 2) for array in (a, c)
    )
    count, depth = cgutils.unpack_tuple(builder, a.shape, 2)
    a_start, c_start = (builder.bitcast(array.data, _BYTES) for array in (a, c))
    c_start = builder.gep(c_start, [left])
    # What lies beyond the last row is the last row again.
    last = builder.sub(count, _INT(1))
    rows = [
        builder.select(builder.icmp_signed("<", _INT(row), last), _INT(row), last)
        for row in range(ROWS)
    ]
    a_rows = [builder.gep(a_start, [builder.mul(row, a_row)]) for row in rows]
    c_rows = [builder.gep(c_start, [builder.mul(row, c_row)]) for row in rows]

    before = builder.block
    loop = builder.append_basic_block("step")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(_INT)
    sums = [[builder.phi(_VECTOR) for _ in range(vectors)] for _ in rows]
    place = line(step)
    factors = [
        builder.load(_vector(builder, place, number), align=4)
        for number in range(vectors)
    ]
    offset = builder.mul(step, a_step)
    totals = []
    for a_row, row in zip(a_rows, sums, strict=True):
        place = builder.bitcast(builder.gep(a_row, [offset]), _FLOAT.as_pointer())
        number = broadcast(builder, builder.load(place), _VECTOR)
        totals.append(
            [
                multiply_add(builder, number, factor, total)
                for factor, total in zip(factors, row, strict=True)
            ]
        )
    following = builder.add(step, _INT(1))
    again = builder.icmp_signed("<", following, depth)
    after = builder.append_basic_block("step.end")
    leave_rolled(builder, builder.cbranch(again, loop, after))
    step.add_incoming(_INT(0), before)
    step.add_incoming(following, loop)
    for row, results in zip(sums, totals, strict=True):
        for total, result in zip(row, results, strict=True):
            total.add_incoming(ir.Constant(_VECTOR, [0.0] * LANES), before)
            total.add_incoming(result, loop)

    builder.position_at_end(after)
    for c_row, results in zip(c_rows, totals, strict=True):
        for number, result in enumerate(results):
            builder.store(result, _vector(builder, c_row, number), align=4)


def multiply_add(builder, left, right, total):
    """``left * right + total`` of vectors, rounded once where the processor can."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_VECTOR, [_VECTOR] * 3),
        f"llvm.fmuladd.v{LANES}f32",
    )
    return builder.call(function, [left, right, total])


def _vector(builder, start, number):
    """Address of the vector that is `number` vectors from `start`."""
    address = builder.gep(start, [_INT(4 * LANES * number)])
    return builder.bitcast(address, _VECTOR.as_pointer())
