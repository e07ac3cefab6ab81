"""What the functions of recurrent networks check, and hand from pass to pass."""

from __future__ import annotations

from typing import Any

from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.linear import check_dtypes


class ForwardPass:
    """Hands results of a forward pass to the backward pass, outside the tape.

    Attributes
    ----------
    kept : Any
        What the backward pass needs besides results and arguments.
    c : array
        The last cell state; see :func:`last_cell`.
    gc : array or None
        Gradient by it.
    """

    __slots__ = ("c", "gc", "kept")

    def __init__(self) -> None:
        self.kept: Any = None
        self.c: Any = None
        self.gc: Array | None = None


@primitive
def last_cell(hs: Array, context: ForwardPass) -> Array:
    """Second result of the primitive that made `hs` and filled `context`.

    A primitive has one result. The gradient by this one is handed on in `context`: the
    tape gets to it before it gets to that by `hs`.
    """
    return context.c


def _last_cell_vjp(argnums, c, args, kwargs):
    hs, context = args

    def vjp(gc: Array):
        context.gc = gc
        return [array_namespace(hs).zeros_like(hs)]

    return vjp


defvjp_argnums(last_cell, _last_cell_vjp)


def check_sequence(
    operation: str, gates: int, z: Array, W: Array, b: Array | None = None, **state: Any
) -> None:
    """Raise unless the arguments of a sequence's function go together."""
    check_arrays(operation, z=z, W=W, **state)
    array_namespace(z, W, b, *state.values())
    units = tuple(W.shape)[-1] if W.ndim else 0
    if tuple(W.shape) != (gates * units, units):
        message = (
            f"{operation}: `W` must have shape ({_blocks(gates)}, units), "
            f"got {tuple(W.shape)}"
        )
        raise ValueError(message)
    shape = tuple(z.shape)
    if len(shape) != 3 or 0 in shape or shape[2] != gates * units:
        message = (
            f"{operation}: `z` must have shape (time, batch, {gates * units}), none of "
            f"them 0, to go with `W` of shape {tuple(W.shape)}, got {shape}"
        )
        raise ValueError(message)
    if b is not None and tuple(b.shape) != (gates * units,):
        message = (
            f"{operation}: `b` must have shape ({gates * units},) to go with `W` of "
            f"shape {tuple(W.shape)}, got {tuple(b.shape)}"
        )
        raise ValueError(message)
    check_state(operation, shape[1], units, **state)
    check_floating(operation, "W", W)
    raw = {name: untraced(x) for name, x in {"z": z, "b": b, **state}.items()}
    check_dtypes(operation, untraced(W), **raw)


def check_step(operation: str, gates: int, h: Array, name: str, **parts: Array) -> None:
    """Raise unless the arguments of one step's function go together.

    `h` is the state that gives the sizes, called `name`; `parts` are pre-activations.
    """
    check_arrays(operation, **{name: h}, **parts)
    array_namespace(h, *parts.values())
    shape = tuple(h.shape)
    if len(shape) != 2 or 0 in shape:
        message = (
            f"{operation}: `{name}` must have shape (batch, units), neither of them "
            f"0, got {shape}"
        )
        raise ValueError(message)
    expected = (shape[0], gates * shape[1])
    for argument, part in parts.items():
        if tuple(part.shape) != expected:
            message = (
                f"{operation}: `{argument}` must have shape {expected} to go with "
                f"`{name}` of shape {shape}, got {tuple(part.shape)}"
            )
            raise ValueError(message)
    check_floating(operation, name, h)
    dtype = untraced(h).dtype
    for argument, part in parts.items():
        if untraced(part).dtype != dtype:
            message = (
                f"{operation}: `{argument}` must have the dtype of `{name}`, {dtype}, "
                f"got {untraced(part).dtype}; convert the data once, before training"
            )
            raise TypeError(message)


def check_state(operation: str, batch: int, units: int, **state: Array) -> None:
    """Raise unless each array has the shape (batch, units)."""
    for argument, array in state.items():
        if tuple(array.shape) != (batch, units):
            message = (
                f"{operation}: `{argument}` must have shape {(batch, units)}, for a "
                f"batch of {batch} and {units} units, got {tuple(array.shape)}"
            )
            raise ValueError(message)


def check_arrays(operation: str, **arrays: Any) -> None:
    """Raise unless all are arrays."""
    for argument, array in arrays.items():
        check_array(operation, argument, array)


def check_floating(operation: str, argument: str, x: Array) -> None:
    """Raise unless an array holds floating-point numbers."""
    x = untraced(x)
    if not array_namespace(x).isdtype(x.dtype, "real floating"):
        message = (
            f"{operation}: `{argument}` must hold floating-point numbers, got {x.dtype}"
        )
        raise TypeError(message)


def _blocks(gates: int) -> str:
    return "units" if gates == 1 else f"{gates} * units"
