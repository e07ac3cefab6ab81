"""Pooling of images."""

from __future__ import annotations

from typing import Any

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.recording import Shape, recordable
from vdcore.windows import Pair, Window, window


class _ForwardPass:
    """Hands the places of the largest to the backward pass, outside the tape."""

    __slots__ = ("cover_all", "places", "window")

    def __init__(self, window: Window, cover_all: bool) -> None:
        self.window = window
        self.cover_all = cover_all


@primitive
def _max_pooling(x, context):
    y, context.places = kernels.max_pooling_forward(
        x, context.window, context.cover_all
    )
    return y


def _max_pooling_vjp(argnums, y, args, kwargs):
    x, context = args
    shape = tuple(x.shape[2:])

    def vjp(gy: Array):
        return [kernels.max_pooling_backward(gy, context.places, context.window, shape)]

    return vjp


defvjp_argnums(_max_pooling, _max_pooling_vjp)


def _max_pooling_step(
    shape: Shape, ksize: Any, stride: Any = None, pad: Any = 0, cover_all: bool = True
) -> tuple[dict[str, Any], Shape]:
    name = "max_pooling_2d"
    moved = window(name, ksize, ksize if stride is None else stride, pad)
    options = {"window": moved, "cover_all": cover_all}
    return options, _pooled(name, shape, moved, cover_all)


@recordable("max_pooling_2d", _max_pooling_step)
def max_pooling_2d(
    x: Array, ksize: Any, stride: Any = None, pad: Any = 0, cover_all: bool = True
) -> Array:
    """Largest number of each window that moves over images, channel by channel.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    ksize : int or pair of int
        Rows and columns of the window.
    stride : int or pair of int, optional
        Pixels between one position and the next. Default `ksize`.
    pad : int or pair of int
        Pixels by which windows may reach beyond each side; those are never the largest.
    cover_all : bool
        Whether every pixel is within some window, so that the last may reach beyond
        the image. True as in Chainer; torch's ``ceil_mode=False`` is False.

    Returns
    -------
    array, shape (batch, channels, out_height, out_width)
        dtype of `x`. NaN where the window holds one; the gradient of equal numbers
        goes to the first.

    Raises
    ------
    ValueError
        If `x` holds no images, the window does not fit, or lies wholly outside them.
    TypeError
        If `x` is no array of floating-point numbers.
    """
    moved = _checked("max_pooling_2d", x, ksize, stride, pad, cover_all)
    return _max_pooling(x, _ForwardPass(moved, cover_all))


@primitive
def _average_pooling(x, window):
    return kernels.average_pooling_forward(x, window)


def _average_pooling_vjp(argnums, y, args, kwargs):
    x, window = args
    shape = tuple(x.shape[2:])
    return lambda gy: [kernels.average_pooling_backward(gy, window, shape)]


defvjp_argnums(_average_pooling, _average_pooling_vjp)


def _average_pooling_step(
    shape: Shape, ksize: Any, stride: Any = None, pad: Any = 0
) -> tuple[dict[str, Any], Shape]:
    name = "average_pooling_2d"
    moved = window(name, ksize, ksize if stride is None else stride, pad)
    return {"window": moved}, _pooled(name, shape, moved, cover_all=False)


@recordable("average_pooling_2d", _average_pooling_step)
def average_pooling_2d(x: Array, ksize: Any, stride: Any = None, pad: Any = 0) -> Array:
    """Mean of each window that moves over images, channel by channel.

    Parameters
    ----------
    x : array, shape (batch, channels, height, width)
    ksize, stride, pad
        As of :func:`max_pooling_2d`; the pixels added are zeros, and count.

    Returns
    -------
    array, shape (batch, channels, out_height, out_width)
        dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        As :func:`max_pooling_2d`.
    """
    moved = _checked("average_pooling_2d", x, ksize, stride, pad, cover_all=False)
    return _average_pooling(x, moved)


def _checked(
    operation: str, x: Array, ksize: Any, stride: Any, pad: Any, cover_all: bool
) -> Window:
    """The window, after it has been checked against the images."""
    check_array(operation, "x", x)
    x = untraced(x)
    if not array_namespace(x).isdtype(x.dtype, "real floating"):
        message = (
            f"{operation}: `x` must hold floating-point numbers, got {x.dtype}; "
            "convert the images once, before training"
        )
        raise TypeError(message)
    moved = window(operation, ksize, ksize if stride is None else stride, pad)
    _check_fits(operation, tuple(x.shape), moved, cover_all)
    return moved


def _pooled(operation: str, shape: Shape, moved: Window, cover_all: bool) -> Shape:
    """Shape of one example after pooling."""
    if shape is None:
        return None
    _check_fits(operation, (1, *shape), moved, cover_all)
    channels, height, width = shape
    return (channels, *moved.positions((height, width), cover_all=cover_all))


def _check_fits(
    operation: str, shape: tuple[int, ...], moved: Window, cover_all: bool
) -> None:
    """Raise unless all positions of the window meet images of this shape."""
    if len(shape) != 4 or 0 in shape:
        message = (
            f"{operation}: `x` must have shape (batch, channels, height, width), none "
            f"of them 0, got {shape}"
        )
        raise ValueError(message)
    size = (shape[2], shape[3])
    positions = moved.positions(size, cover_all=cover_all)
    if min(positions) < 1:
        message = (
            f"{operation}: the window must fit in the padded images, got `ksize` = "
            f"{moved.size} for images of {size} with `pad` = {moved.pad}"
        )
        raise ValueError(message)
    if _misses(moved, size, positions):
        message = (
            f"{operation}: every window must meet the image, of {size}, and with "
            f"`ksize` = {moved.size}, `stride` = {moved.stride}, `pad` = {moved.pad} "
            f"and cover_all={cover_all} some do not; make `ksize` larger than `pad` "
            "and no smaller than `stride`"
        )
        raise ValueError(message)


def _misses(window: Window, shape: Pair, positions: Pair) -> bool:
    """Whether the first or last position lies wholly in the padding, or beyond it."""
    return any(
        size <= pad or (count - 1) * stride >= pad + n
        for size, stride, pad, count, n in zip(
            window.size, window.stride, window.pad, positions, shape, strict=True
        )
    )
