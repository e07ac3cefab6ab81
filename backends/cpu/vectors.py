"""Vectors of numbers that compiled code keeps in registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from vdcore.backends.cpu.lanes import broadcast
from vdcore.backends.cpu.transposition import address

# mypy: ignore-errors
# Numba gives intrinsics their arguments.


class Lanes(types.Type):
    """Numba's type of a vector of float32 values.

    A loop that adds many scaled rows to one must keep the sum in registers. Numba does
    not see to that for a loop over arrays, which is five times slower than one over
    vectors. LLVM turns a vector into as many registers as the processor needs for it.
    """

    def __init__(self, width: int) -> None:
        super().__init__(name=f"Lanes({width})")
        self.vector = ir.VectorType(ir.FloatType(), width)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        super().__init__(manager, lanes, lanes.vector)


@intrinsic(prefer_literal=True)
def splat(typing_context, value, width):
    """Vector with `value` in all lanes."""
    lanes = Lanes(width.literal_value)

    def generate(context, builder, signature, args):
        return broadcast(builder, args[0], lanes.vector)

    return lanes(value, width), generate


@intrinsic(prefer_literal=True)
def load(typing_context, array, offset, width):
    """``array[offset : offset + width]``, of any shape; `offset` is not checked."""
    lanes = Lanes(width.literal_value)

    def generate(context, builder, signature, args):
        values, start, _ = args
        pointer = address(context, builder, array, values, start, lanes.vector)
        return builder.load(pointer, align=4)

    return lanes(array, types.uint64, width), generate


@intrinsic
def add_scaled(typing_context, lanes, scale, values):
    """``lanes + scale * values`` with a number `scale`."""

    def generate(context, builder, signature, args):
        total, scale, values = args
        scales = broadcast(builder, scale, lanes.vector)
        product = builder.fmul(scales, values, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return lanes(lanes, scale, values), generate


@intrinsic
def store(typing_context, array, offset, lanes):
    """``array[offset : offset + width] = lanes``; `offset` is not checked."""

    def generate(context, builder, signature, args):
        target, start, values = args
        pointer = address(context, builder, array, target, start, lanes.vector)
        builder.store(values, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.uint64, lanes), generate
