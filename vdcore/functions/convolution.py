"""Convolution of images, plain and with noisy weights."""

from __future__ import annotations

from typing import Any

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.linear import check_dtypes
from vdcore.functions.variational import ForwardPass, check_noise, check_posterior
from vdcore.windows import Window, window


@primitive
def _convolution(x, W, b, moved, groups):
    return kernels.convolution_forward(x, W, b, moved, groups)


def _convolution_vjp(argnums, y, args, kwargs):
    x, W, _, moved, groups = args

    def vjp(gy: Array):
        gradients = kernels.convolution_backward(gy, x, W, moved, groups, 0 in argnums)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_convolution, _convolution_vjp)


@primitive
def _vd_convolution(x, W, log_sigma2, b, noise, moved, groups, context):
    y, context.residual = kernels.vd_convolution_forward(
        x, W, log_sigma2, b, noise, context.threshold, moved, groups
    )
    return y


def _vd_convolution_vjp(argnums, y, args, kwargs):
    x, W, log_sigma2, _, _, moved, groups, context = args

    def vjp(gy: Array):
        gradients = kernels.vd_convolution_backward(
            gy,
            x,
            W,
            log_sigma2,
            context.residual,
            context.threshold,
            moved,
            groups,
            0 in argnums,
        )
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_vd_convolution, _vd_convolution_vjp)


def convolution_2d(
    x: Array,
    W: Array,
    b: Array | None = None,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilate: Any = 1,
    groups: int = 1,
) -> Array:
    """Two-dimensional convolution (cross-correlation) of a batch of images.

    ``y[n, o, i, j] = b[o] + sum(W[o, c, k, l] x[n, c, i s + k d - p, j s + l d - p])``
    over c, k and l, with stride s, dilation d, padding p, and 0 outside the image.

    Parameters
    ----------
    x : array, shape (batch, in_channels, height, width)
    W : array, shape (out_channels, in_channels / groups, rows, columns)
    b : array, shape (out_channels,), optional
    stride, pad, dilate : int or pair of int
        Of rows and columns.
    groups : int
        The g-th of so many runs of output channels sees the g-th run of input
        channels only.

    Returns
    -------
    array, shape (batch, out_channels, out_height, out_width)
        dtype of `x`; ``out_height = (height + 2 p - (rows - 1) d - 1) // s + 1``.

    Raises
    ------
    ValueError
        If the shapes do not fit, there is no example, the padded image is smaller than
        the kernel, or the channels cannot be divided into the groups.
    TypeError
        If one of them is no array, or the dtypes or libraries differ.
    """
    moved = checked_window("convolution_2d", x, W, b, stride, pad, dilate, groups)
    return _convolution(x, W, b, moved, groups)


def vd_convolution_2d(
    x: Array,
    W: Array,
    log_sigma2: Array,
    b: Array | None,
    noise: Array,
    threshold: float | None = None,
    stride: Any = 1,
    pad: Any = 0,
    *,
    dilate: Any = 1,
    groups: int = 1,
) -> Array:
    """Convolution with Gaussian weights, sampled by local reparameterisation.

    Each output has a draw of its own, at every position of an image.

    Parameters
    ----------
    x : array, shape (batch, in_channels, height, width)
    W, log_sigma2 : array, shape (out_channels, in_channels / groups, rows, columns)
        Posterior means and log variances.
    b : array, shape (out_channels,), or None
    noise : array, shape (batch, out_channels, out_height, out_width)
        Standard normal draws; consumed (a backend may overwrite them).
    threshold : float, optional
        Weights with log alpha above it are masked: mean and variance 0, and no
        gradient. Default no masks.
    stride, pad, dilate, groups
        As of :func:`convolution_2d`.

    Returns
    -------
    array, shape (batch, out_channels, out_height, out_width)
        ``W * x + sqrt(exp(log_sigma2) * x^2 + 1e-8) noise + b`` with ``*`` the
        convolution; dtype of `x` (Molchanov et al. 2017, section 4.4).

    Raises
    ------
    ValueError, TypeError
        As :func:`convolution_2d`; also if `log_sigma2` or `noise` do not fit.
    """
    name = "vd_convolution_2d"
    moved = checked_window(name, x, W, b, stride, pad, dilate, groups)
    check_posterior(name, W, log_sigma2)
    batch, _, *size = untraced(x).shape
    expected = (batch, untraced(W).shape[0], *moved.positions(tuple(size)))
    check_noise(name, x, W, noise, expected)
    context = ForwardPass(threshold)
    return _vd_convolution(x, W, log_sigma2, b, noise, moved, groups, context)


def checked_window(
    operation: str,
    x: Array,
    W: Array,
    b: Array | None,
    stride: Any,
    pad: Any,
    dilate: Any,
    groups: Any,
) -> Window:
    """The window of a convolution, after all its arguments have been checked."""
    check_array(operation, "x", x)
    check_array(operation, "W", W)
    array_namespace(x, W, b)
    x, W, b = map(untraced, (x, W, b))
    shape, weights = tuple(x.shape), tuple(W.shape)
    for argument, given in (("x", shape), ("W", weights)):
        if len(given) != 4:
            axes = {"x": "batch, channels", "W": "out_channels, in_channels"}[argument]
            message = (
                f"{operation}: `{argument}` must have four axes ({axes}, height, "
                f"width), got shape {given}"
            )
            raise ValueError(message)
    if shape[0] == 0:
        message = (
            f"{operation}: `x` must hold at least one example, got shape {shape}; "
            "leave empty batches out"
        )
        raise ValueError(message)
    moved = window(operation, weights[2:], stride, pad, dilate, size_name="W")
    check_groups(operation, groups, shape[1], weights[0])
    if shape[1] != weights[1] * groups:
        message = (
            f"{operation}: `x` must have {weights[1] * groups} channels to go with `W` "
            f"of shape {weights} and {groups} groups, got shape {shape}"
        )
        raise ValueError(message)
    check_window_fits(operation, moved, shape[2:])
    if b is not None and tuple(b.shape) != weights[:1]:
        message = (
            f"{operation}: `b` must have shape {weights[:1]} to go with `W` of shape "
            f"{weights}, got {tuple(b.shape)}"
        )
        raise ValueError(message)
    check_dtypes(operation, W, x=x, b=b)
    return moved


def check_groups(
    operation: str, groups: Any, in_channels: int, out_channels: int
) -> None:
    """Raise unless both numbers of channels can be divided into the groups."""
    whole = isinstance(groups, int) and groups > 0
    if not whole or in_channels % groups or out_channels % groups:
        message = (
            f"{operation}: `groups` must be a positive integer that divides the "
            f"{in_channels} input and the {out_channels} output channels, got "
            f"{groups!r}"
        )
        raise ValueError(message)


def check_window_fits(operation: str, moved: Window, shape: tuple[int, ...]) -> None:
    """Raise unless the window has a position in a padded image of this shape."""
    height, width = shape
    if min(moved.positions((height, width))) < 1:
        (rows, columns), (top, left) = moved.extent, moved.pad
        message = (
            f"{operation}: the window spans {rows}x{columns} pixels and the padded "
            f"image has only {height + 2 * top}x{width + 2 * left}; use a smaller "
            "kernel or dilation, more padding, or larger images"
        )
        raise ValueError(message)
