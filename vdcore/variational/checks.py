"""Checks of arguments, made before anything is computed: libraries would broadcast.

A shape or dtype that does not fit most often gives an answer, and a wrong one: noise of
one example is shared by all, an integer is truncated, float64 makes all else float64.
"""

from __future__ import annotations

from typing import Any

from vdcore.arrays import Array, array_namespace, is_array


def floating_namespace(operation: str, **arrays: Array) -> Any:
    """Return the namespace of `arrays`, named as the operation's arguments.

    Raises
    ------
    TypeError
        If one is no array, they come from two libraries, the first is not of a real
        floating dtype, or another one not of the dtype of the first.
    """
    xp = _namespace(operation, arrays)
    (first, like), *others = arrays.items()
    if not xp.isdtype(like.dtype, "real floating"):
        message = (
            f"{operation}: `{first}` must have a real floating dtype, got "
            f"{like.dtype}; convert it, for example to float32"
        )
        raise TypeError(message)
    for argument, array in others:
        if array.dtype != like.dtype:
            message = (
                f"{operation}: `{argument}` must have the dtype of `{first}`, "
                f"{like.dtype}, got {array.dtype}; convert one of them"
            )
            raise TypeError(message)
    return xp


def mask_namespace(operation: str, keep: Array) -> Any:
    """Return the namespace of a keep mask.

    Raises
    ------
    TypeError
        If it is no array of booleans.
    """
    xp = _namespace(operation, {"keep": keep})
    if not xp.isdtype(keep.dtype, "bool"):
        message = (
            f"{operation}: `keep` must be an array of booleans, got {keep.dtype}; make "
            "it by keep_mask"
        )
        raise TypeError(message)
    return xp


def check_same_shape(operation: str, **arrays: Array) -> None:
    """Raise unless all have the shape of the first.

    Raises
    ------
    ValueError
        If one has another shape.
    """
    (first, like), *others = arrays.items()
    shape = tuple(like.shape)
    for argument, array in others:
        if tuple(array.shape) != shape:
            message = (
                f"{operation}: `{argument}` must have the shape of `{first}`, {shape}, "
                f"got {tuple(array.shape)}; give one value for each of its elements"
            )
            raise ValueError(message)


def _namespace(operation: str, arrays: dict[str, Array]) -> Any:
    for argument, array in arrays.items():
        if not is_array(array):
            message = (
                f"{operation}: `{argument}` must be an array, got "
                f"{type(array).__name__}; convert it, for example by numpy.asarray"
            )
            raise TypeError(message)
    return array_namespace(*arrays.values())
