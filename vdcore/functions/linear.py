"""Affine map of a batch of vectors."""

from __future__ import annotations

import math
from typing import Any

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.recording import Shape, recordable


def _flat(shape: Shape) -> tuple[dict[str, Any], Shape]:
    return {}, None if shape is None else (math.prod(shape),)


@recordable("flatten", _flat)
def flatten(x: Array) -> Array:
    """Each example as one vector: ``(batch, ...)`` to ``(batch, size)``."""
    shape = tuple(x.shape)
    return array_namespace(x).reshape(x, (shape[0], math.prod(shape[1:])))


@primitive
def _linear(x: Array, W: Array, b: Array | None) -> Array:
    return kernels.linear_forward(x, W, b)


def _linear_vjp(argnums, y, args, kwargs):
    x, W, _ = args

    def vjp(gy: Array):
        gradients = kernels.linear_backward(gy, x, W, 0 in argnums)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_linear, _linear_vjp)


def linear(x: Array, W: Array, b: Array | None = None) -> Array:
    """Affine map ``y = x W^T + b``.

    Parameters
    ----------
    x : array, shape (batch, ...)
        Trailing axes are flattened; they hold in_size numbers together.
    W : array, shape (out_size, in_size)
    b : array, shape (out_size,), optional

    Returns
    -------
    array, shape (batch, out_size)
        dtype of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If one of them is no array, or the dtypes or libraries differ.
    """
    x = checked_input("linear", x, W, b)
    return _linear(x, W, b)


def checked_input(operation: str, x: Array, W: Array, b: Array | None) -> Array:
    """`x` as (batch, in_size), after the shapes and dtypes have been checked."""
    check_array(operation, "x", x)
    check_array(operation, "W", W)
    array_namespace(x, W, b)
    traced, (x, W, b) = x, map(untraced, (x, W, b))
    in_size = W.shape[1]
    shape = tuple(x.shape)
    if len(shape) < 2 or math.prod(shape[1:]) != in_size:
        message = (
            f"{operation}: `x` must have shape (batch, {in_size}), or hold {in_size} "
            f"numbers an example, to go with `W` of shape {tuple(W.shape)}; got {shape}"
        )
        raise ValueError(message)
    if b is not None and tuple(b.shape) != (W.shape[0],):
        message = (
            f"{operation}: `b` must have shape ({W.shape[0]},) to go with `W` of shape "
            f"{tuple(W.shape)}, got {tuple(b.shape)}"
        )
        raise ValueError(message)
    check_dtypes(operation, W, x=x, b=b)
    return traced if len(shape) == 2 else flatten(traced)


def check_dtypes(operation: str, W: Array, **arrays: Array | None) -> None:
    """Raise unless `arrays`, named as the operation's arguments, have W's dtype."""
    for argument, array in arrays.items():
        if array is not None and array.dtype != W.dtype:
            message = (
                f"{operation}: `{argument}` must have the dtype of `W`, {W.dtype}, "
                f"got {array.dtype}; convert the data once, before training"
            )
            raise TypeError(message)
