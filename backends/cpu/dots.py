"""Sums of products of long rows, many at once, that stay in vector registers.

The gradient by the weights of a convolution is the product of two matrices whose rows
are summed over: each is read along its rows, so that neither needs to be turned round.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vdcore.backends.cpu.lanes import broadcast, leave_rolled
from vdcore.backends.cpu.product import LANES, ROWS, VECTORS, multiply_add

# mypy: ignore-errors
# Numba gives these functions their types, and intrinsics their arguments.

LINES = VECTORS  # rows of the second matrix at a time

_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)


@intrinsic
def add_dots(
    typing_context, a, a_first, a_pitch, a_count, b, b_rows, b_first, b_count,
    starts, first, last, length, c, c_row, c_column,
):  # fmt: skip
    """Add the products of up to ROWS rows of `a` with up to LINES rows of `b` to `c`.

    ``c[c_row + r, c_column + q] +=`` the sum over strips s from `first` to `last` - 1
    and over j below `length` of ``a[a_first + r * a_pitch + s * length + j] *
    b[starts[s] + b_rows[b_first + q] + j]``, with flat `a` and `b`. A strip has at
    least LANES numbers.
    """

    def generate(context, builder, signature, values):
        arrays = {
            k: context.make_array(signature.args[k])(context, builder, values[k])
            for k in (0, 4, 5, 8, 12)
        }
        a, b, b_rows, starts, c = (arrays[k] for k in (0, 4, 5, 8, 12))
        a_first, a_pitch, a_count = values[1:4]
        b_first, b_count = values[6:8]
        first, last, length = values[9:12]

        def within(number, count):
            """What lies beyond the last one is the last one again."""
            final = builder.sub(count, _INT(1))
            below = builder.icmp_signed("<", _INT(number), final)
            return builder.select(below, _INT(number), final)

        a_places = [
            builder.add(a_first, builder.mul(within(r, a_count), a_pitch))
            for r in range(ROWS)
        ]
        b_places = [
            builder.load(
                builder.gep(b_rows.data, [builder.add(b_first, within(q, b_count))])
            )
            for q in range(LINES)
        ]

        def step(sums, a_strip, b_strip, position, mask=None):
            a_start = builder.add(a_strip, position)
            b_start = builder.add(b_strip, position)
            right = [
                _load(builder, b.data, builder.add(place, b_start))
                for place in b_places
            ]
            totals = []
            for place, row in zip(a_places, sums, strict=True):
                left = _load(builder, a.data, builder.add(place, a_start))
                if mask is not None:
                    left = builder.select(mask, left, _zeros())
                totals.append(
                    [
                        multiply_add(builder, left, factor, total)
                        for factor, total in zip(right, row, strict=True)
                    ]
                )
            return totals

        entry = builder.block
        strip_loop, vector_loop, vectors_done, tail, strip_done, end = (
            builder.append_basic_block(name)
            for name in ("strip", "vector", "vectors.end", "tail", "strip.next", "end")
        )
        whole = builder.and_(length, _INT(-LANES))
        rest = builder.sub(length, whole)
        builder.cbranch(builder.icmp_signed("<", first, last), strip_loop, end)

        builder.position_at_end(strip_loop)
        strip = builder.phi(_INT)
        strip_sums = _phis(builder)
        a_strip = builder.mul(strip, length)
        b_strip = builder.load(builder.gep(starts.data, [strip]))
        builder.branch(vector_loop)

        builder.position_at_end(vector_loop)
        position = builder.phi(_INT)
        sums = _phis(builder)
        totals = step(sums, a_strip, b_strip, position)
        following = builder.add(position, _INT(LANES))
        again = builder.icmp_signed("<", following, whole)
        leave_rolled(builder, builder.cbranch(again, vector_loop, vectors_done))
        position.add_incoming(_INT(0), strip_loop)
        position.add_incoming(following, vector_loop)
        _incoming(sums, strip_sums, strip_loop)
        _incoming(sums, totals, vector_loop)

        builder.position_at_end(vectors_done)
        builder.cbranch(builder.icmp_signed(">", rest, _INT(0)), tail, strip_done)

        builder.position_at_end(tail)  # the last vector again, where it is new
        known = builder.trunc(builder.sub(_INT(LANES), rest), ir.IntType(32))
        number = ir.VectorType(ir.IntType(32), LANES)
        lane = ir.Constant(number, list(range(LANES)))
        mask = builder.icmp_signed(">=", lane, broadcast(builder, known, number))
        beyond = builder.sub(length, _INT(LANES))
        tail_totals = step(totals, a_strip, b_strip, beyond, mask)
        builder.branch(strip_done)

        builder.position_at_end(strip_done)
        results = _phis(builder)
        _incoming(results, totals, vectors_done)
        _incoming(results, tail_totals, tail)
        next_strip = builder.add(strip, _INT(1))
        more = builder.icmp_signed("<", next_strip, last)
        builder.cbranch(more, strip_loop, end)
        strip.add_incoming(first, entry)
        strip.add_incoming(next_strip, strip_done)
        _incoming(strip_sums, [[_zeros()] * LINES] * ROWS, entry)
        _incoming(strip_sums, results, strip_done)

        builder.position_at_end(end)
        final = _phis(builder)
        _incoming(final, [[_zeros()] * LINES] * ROWS, entry)
        _incoming(final, results, strip_done)
        pitch = builder.extract_value(c.strides, 0)
        pitch = builder.sdiv(pitch, _INT(4))
        for r, row in enumerate(final):
            for q, vector in enumerate(row):
                exists = builder.and_(
                    builder.icmp_signed("<", _INT(r), a_count),
                    builder.icmp_signed("<", _INT(q), b_count),
                )
                with builder.if_then(exists):
                    place = builder.add(
                        builder.mul(builder.add(values[13], _INT(r)), pitch),
                        builder.add(values[14], _INT(q)),
                    )
                    address = builder.gep(c.data, [place])
                    total = _total(builder, vector)
                    total = builder.fadd(builder.load(address), total)
                    builder.store(total, address)
        return context.get_dummy_value()

    i = types.int64
    signature = types.void(
        a, i, i, i, b, b_rows, i, i, starts, i, i, i, c, i, i
    )  # fmt: skip
    return signature, generate


def _zeros():
    return ir.Constant(_VECTOR, [0.0] * LANES)


def _load(builder, data, place):
    address = builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer())
    return builder.load(address, align=4)


def _phis(builder):
    return [[builder.phi(_VECTOR) for _ in range(LINES)] for _ in range(ROWS)]


def _incoming(phis, values, block):
    for row, results in zip(phis, values, strict=True):
        for phi, result in zip(row, results, strict=True):
            phi.add_incoming(result, block)


def _total(builder, vector):
    """The sum of a vector's lanes, by halves."""
    width = LANES
    while width > 1:
        width //= 2
        empty = ir.Constant(vector.type, ir.Undefined)
        low, high = (
            builder.shuffle_vector(
                vector,
                empty,
                ir.Constant(
                    ir.VectorType(ir.IntType(32), width),
                    list(range(start, start + width)),
                ),
            )
            for start in (0, width)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.IntType(32)(0))
