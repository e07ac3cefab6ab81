"""Vectors of a sequence as the rows of a matrix."""

from __future__ import annotations

from typing import Any

from vdcore.arrays import Array, array_namespace, check_array
from vdcore.recording import Shape, recordable


def _last(shape: Shape) -> tuple[dict[str, Any], Shape]:
    return {}, None if shape is None else shape[-1:]


@recordable("rows", _last)
def rows(x: Array) -> Array:
    """All vectors of an array below one another: ``(..., size)`` to ``(count, size)``.

    Between a recurrent layer, whose vectors are (time, batch, size), and a linear one,
    which takes a vector from each example.

    Raises
    ------
    ValueError
        If `x` has no axis, or one of length 0.
    TypeError
        If `x` is no array.
    """
    check_array("rows", "x", x)
    shape = tuple(x.shape)
    if not shape or 0 in shape:
        message = f"rows: `x` must have shape (..., size), none of them 0, got {shape}"
        raise ValueError(message)
    return array_namespace(x).reshape(x, (-1, shape[-1]))
