"""Joining and padding of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.unfolding import surrounded


def concat(xs: Sequence[Array], axis: int = 1) -> Array:
    """Join arrays along an axis that they have.

    Parameters
    ----------
    xs : sequence of array
        Of one library, dtype and shape, except along `axis`.
    axis : int
        Default that of the channels.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If there are none, their shapes differ otherwise or they have no such axis.
    TypeError
        If one of them is no array, or their dtypes or libraries differ.
    """
    if len(xs) == 0:
        message = "concat: `xs` must hold one array or more, got none"
        raise ValueError(message)
    for i, x in enumerate(xs):
        check_array("concat", f"xs[{i}]", x)
    xp = array_namespace(*xs)
    ndim = len(xs[0].shape)
    if not -ndim <= axis < ndim:
        message = (
            f"concat: `axis` must be one of the {ndim} that the arrays have, got {axis}"
        )
        raise ValueError(message)
    expected, dtype = _without(xs[0], axis), untraced(xs[0]).dtype
    for i, x in enumerate(xs):
        if len(x.shape) != ndim or _without(x, axis) != expected:
            message = (
                f"concat: `xs` must have one shape, except along axis {axis}, got "
                f"{tuple(xs[0].shape)} and, for xs[{i}], {tuple(x.shape)}"
            )
            raise ValueError(message)
        if untraced(x).dtype != dtype:
            message = (
                f"concat: `xs` must have one dtype, got {dtype} and, for xs[{i}], "
                f"{untraced(x).dtype}; convert them first"
            )
            raise TypeError(message)
    return xp.concat(list(xs), axis=axis)


def _without(x: Array, axis: int) -> list[int]:
    shape = list(x.shape)
    del shape[axis]
    return shape


@primitive
def _pad(x: Array, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    return surrounded(x, widths, value)


def _inside(
    shape: tuple[int, ...], widths: tuple[tuple[int, int], ...]
) -> tuple[slice, ...]:
    return tuple(
        slice(before, before + n) for n, (before, _) in zip(shape, widths, strict=True)
    )


def _pad_vjp(argnums, y, args, kwargs):
    x, widths, _ = args
    inside = _inside(tuple(x.shape), widths)
    return lambda gy: [gy[inside]]


defvjp_argnums(_pad, _pad_vjp)


def pad(
    x: Array, pad_width: Any, mode: str = "constant", constant_values: float = 0
) -> Array:
    """Add elements around an array.

    Parameters
    ----------
    x : array
    pad_width : int, pair of int, or sequence of pairs
        How many elements are added on both sides of each axis, before and after each,
        or before and after for each axis by itself.
    mode : {"constant"}
    constant_values : float
        Value of the elements added.

    Returns
    -------
    array
        dtype of `x`.

    Raises
    ------
    ValueError
        If `pad_width` is none of these, or `mode` another one of numpy.pad's.
    TypeError
        If `x` is no array.
    """
    check_array("pad", "x", x)
    if mode != "constant":
        message = (
            f'pad: `mode` must be "constant", got {mode!r}; pad the data in another '
            "way once, before training, by numpy.pad"
        )
        raise ValueError(message)
    return _pad(x, _widths(pad_width, len(x.shape)), constant_values)


def _widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """Elements before and after, for each axis."""

    def is_width(n: Any) -> bool:
        return isinstance(n, int) and n >= 0

    def is_pair(pair: Any) -> bool:
        return isinstance(pair, tuple | list) and len(pair) == 2

    if is_width(pad_width):
        return ((pad_width, pad_width),) * ndim
    if is_pair(pad_width) and all(map(is_width, pad_width)):
        return (tuple(pad_width),) * ndim
    pairs = pad_width if isinstance(pad_width, tuple | list) else ()
    if len(pairs) != ndim or not all(
        is_pair(pair) and all(map(is_width, pair)) for pair in pairs
    ):
        message = (
            "pad: `pad_width` must be an integer of at least 0, a pair of them, or a "
            f"pair for each of the {ndim} axes, got {pad_width!r}"
        )
        raise ValueError(message)
    return tuple((before, after) for before, after in pairs)
