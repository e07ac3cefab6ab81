"""Pieces of vector code for kernels that write it out."""

from __future__ import annotations

from typing import Any

from llvmlite import ir


def indices(numbers: list[int]) -> Any:
    """A constant vector that says which lanes a shuffle takes."""
    index = ir.IntType(32)
    return ir.Constant(ir.VectorType(index, len(numbers)), numbers)


def broadcast(builder: Any, number: Any, vector: Any) -> Any:
    """A value of the type `vector` with `number` in all lanes."""
    empty = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(empty, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, empty, indices([0] * vector.count))


def leave_rolled(builder: Any, branch: Any) -> None:
    """Keep the compiler from unrolling the loop that ends with `branch`.

    A loop whose sums fill the registers has none left for a second round at once.
    """
    module = builder.module
    off = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    # Made by hand, as `add_metadata` gives equal nodes once: a loop's is its own, and
    # refers to itself.
    loop = ir.MDValue(module, (), name=str(len(module.metadata)))
    loop.operands = (loop, off)
    branch.set_metadata("llvm.loop", loop)
