"""Sums of scaled runs of numbers, in registers: what sparse convolutions are made of.

With the pixels of an image side by side in memory and its rows a fixed distance apart,
a weight meets one run of numbers while its window moves. An output channel is one run
as well: the sum over its weights of weight times run, whatever the shape of the window.
A tile is a stretch of that run whose sums stay in registers.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vdcore.backends.cpu.lanes import broadcast, indices
from vdcore.backends.cpu.product import LANES
from vdcore.backends.cpu.vectors import Lanes

# mypy: ignore-errors
# Numba gives these functions their types, and intrinsics their arguments.

WIDTH = 16  # numbers in a vector; LLVM takes several registers where one is shorter
# Vectors in a tile: the sums and one weight fill the registers at most.
TILES = (*range(1, 13), 14, 16, 18, 20, 22, 24) if LANES == WIDTH else (1, 2, 3, 4, 5)

_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, WIDTH)
_ZERO = ir.Constant(_VECTOR, [0.0] * WIDTH)


@intrinsic
def tile(
    typing_context, count, source, source_at, indices, values, first, number, bias,
    bias_at, bias_step, keep, keep_at, floor, outside, target, target_at,
):  # fmt: skip
    """Compute `count` vectors of an output channel, one of TILES.

    With all arrays flat, nothing checked, and j from 0 to ``count * WIDTH - 1``::

        total = sum(values[q] * source[source_at + indices[q] + j]
                    for q in range(first, first + number))
        total += bias[bias_at + j // WIDTH * bias_step + j % WIDTH]
        target[target_at + j] = max(total, floor) if keep[keep_at + j] else outside

    NaN stays NaN.
    """
    integer = types.int64

    def generate(context, builder, signature, args):
        def address(array, offset):
            make = context.make_array(signature.args[array])
            return builder.gep(make(context, builder, args[array]).data, [args[offset]])

        places = [address(k, k + 1) for k in (1, 7, 10, 14)]
        weights = [address(k, 5) for k in (3, 4)]
        limits = [broadcast(builder, args[k], _VECTOR) for k in (12, 13)]
        end = builder.append_basic_block("tile.end")
        choice = builder.switch(args[0], end)
        for length in TILES:
            block = builder.append_basic_block("tile")
            choice.add_case(_INT(length), block)
            builder.position_at_end(block)
            _compute(builder, length, *places, *weights, args[6], args[9], *limits)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(
        integer, source, integer, indices, values, integer, integer, bias, integer,
        integer, keep, integer, types.float32, types.float32, target, integer,
    ), generate  # fmt: skip


def _compute(
    builder, length, source, bias, keep, target, indices, values, number, step, floor,
    outside,
):  # fmt: skip
    multiply_add = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_VECTOR, [_VECTOR] * 3),
        f"llvm.fmuladd.v{WIDTH}f32",
    )

    def vector(start, k):
        place = builder.gep(start, [_INT(WIDTH * k)])
        return builder.bitcast(place, _VECTOR.as_pointer())

    def add_scaled(q, sums):
        offset = builder.zext(builder.load(builder.gep(indices, [q])), _INT)
        run = builder.gep(source, [offset])
        value = builder.load(builder.gep(values, [q]))
        value = broadcast(builder, value, _VECTOR)
        runs = [builder.load(vector(run, k), align=4) for k in range(length)]
        return [
            builder.call(multiply_add, [value, numbers, total])
            for numbers, total in zip(runs, sums, strict=True)
        ]

    starts = [builder.gep(bias, [builder.mul(step, _INT(k))]) for k in range(length)]
    sums = [builder.load(vector(start, 0), align=4) for start in starts]
    # A register takes in a number every fourth cycle: few of them have to be several.
    together, first = 4 if length <= 2 else 2 if length <= 4 else 1, _INT(0)
    if together > 1:
        groups = [sums, *([[_ZERO] * length] * (together - 1))]
        until = builder.sub(number, _INT(together - 1))
        first, groups = _loop(builder, first, until, groups, add_scaled)
        while len(groups) > 1:
            half = len(groups) // 2
            groups = [
                [builder.fadd(*pair) for pair in zip(*two, strict=True)]
                for two in zip(groups[:half], groups[half:], strict=True)
            ]
        sums = groups[0]
    _, (sums,) = _loop(builder, first, number, [sums], add_scaled)
    for k, total in enumerate(sums):
        low = builder.fcmp_ordered("<", total, floor)  # not if it is NaN
        total = builder.select(low, floor, total)
        kept = builder.load(vector(keep, k), align=4)
        kept = builder.fcmp_ordered("!=", kept, _ZERO)
        total = builder.select(kept, total, outside)
        builder.store(total, vector(target, k), align=4)


def _loop(builder, first, until, groups, add_scaled):
    """``while first < until``: each group of sums takes in one more weight.

    Returns the first weight that is left, and the sums.
    """
    before = builder.block
    body = builder.append_basic_block("weights")
    after = builder.append_basic_block("weights.end")
    builder.cbranch(builder.icmp_signed("<", first, until), body, after)
    builder.position_at_end(body)
    q = builder.phi(_INT)
    sums = [[builder.phi(_VECTOR) for _ in group] for group in groups]
    results = [
        add_scaled(builder.add(q, _INT(k)), group) for k, group in enumerate(sums)
    ]
    following = builder.add(q, _INT(len(groups)))
    builder.cbranch(builder.icmp_signed("<", following, until), body, after)
    builder.position_at_end(after)

    def either(kind, start, result):
        value = builder.phi(kind)
        value.add_incoming(start, before)
        value.add_incoming(result, body)
        return value

    left, ends = either(_INT, first, following), []
    q.add_incoming(first, before)
    q.add_incoming(following, body)
    for group, inside, outcome in zip(groups, sums, results, strict=True):
        ends.append(
            [either(_VECTOR, *pair) for pair in zip(group, outcome, strict=True)]
        )
        for start, total, result in zip(group, inside, outcome, strict=True):
            total.add_incoming(start, before)
            total.add_incoming(result, body)
    return left, ends


@intrinsic
def larger(typing_context, lanes, others):
    """The larger of each two numbers; NaN if one of them is."""

    def generate(context, builder, signature, args):
        total, numbers = args
        more = builder.fcmp_unordered(">", numbers, total)  # or one of them is NaN
        known = builder.fcmp_ordered("ord", total, total)
        return builder.select(builder.and_(more, known), numbers, total)

    return lanes(lanes, others), generate


@intrinsic(prefer_literal=True)
def load_every_other(typing_context, array, offset, width):
    """``array[offset : offset + 2 * width : 2]``, flat; `offset` is not checked."""
    count = width.literal_value

    def generate(context, builder, signature, args):
        make = context.make_array(signature.args[0])
        start = builder.gep(make(context, builder, args[0]).data, [args[1]])
        both = builder.bitcast(start, ir.VectorType(_FLOAT, 2 * count).as_pointer())
        both = builder.load(both, align=4)
        return builder.shuffle_vector(both, both, indices([*range(0, 2 * count, 2)]))

    return Lanes(count)(array, types.uint64, width), generate
