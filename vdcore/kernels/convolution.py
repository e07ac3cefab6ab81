"""Convolution of images, with plain and with noisy weights."""

from __future__ import annotations

import math

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.posterior import masked_posterior
from vdcore.kernels.table import Kernel
from vdcore.unfolding import fold, unfold
from vdcore.variational.pruning import keep_mask
from vdcore.variational.reparameterization import log_alpha
from vdcore.windows import Window


@Kernel
def convolution_forward(
    x: Array, W: Array, b: Array | None, window: Window, groups: int
) -> Array:
    """Convolution (cross-correlation) of images.

    Parameters
    ----------
    x : array, shape (batch, in_channels, height, width)
    W : array, shape (out_channels, in_channels / groups, rows, columns)
    b : array, shape (out_channels,), or None
    window : Window
    groups : int
        Each of so many runs of output channels sees its own run of input channels.

    Returns
    -------
    array, shape (batch, out_channels, out_height, out_width)
    """
    y = _products(W, unfold(x, window), groups)
    return _biased(_images(y, x, window), b)


@Kernel
def convolution_backward(
    gy: Array, x: Array, W: Array, window: Window, groups: int, need_x: bool
) -> tuple[Array | None, Array, Array]:
    """Gradients of :func:`convolution_forward` by x (None unless asked), W and b."""
    xp = array_namespace(gy, x, W)
    gW = _weight_gradient(gy, unfold(x, window), W, groups)
    gx = None
    if need_x:
        gx = fold(_input_gradient(W, gy, groups), window, x.shape[2:])
    return gx, gW, xp.sum(gy, axis=(0, 2, 3))


@Kernel
def vd_convolution_forward(
    x: Array,
    theta: Array,
    log_sigma2: Array,
    b: Array | None,
    noise: Array,
    threshold: float | None,
    window: Window,
    groups: int,
) -> tuple[Array, Array]:
    """Noisy convolution by local reparameterisation, each output with its own draw.

    Parameters
    ----------
    x : array, shape (batch, in_channels, height, width)
    theta, log_sigma2 : array, shape (out_channels, in_channels / groups, rows, columns)
    b : array, shape (out_channels,), or None
    noise : array, shape (batch, out_channels, out_height, out_width)
        Standard normal draws. A backend may reuse its memory.
    threshold : float or None
        Weights with log alpha above it have mean and variance 0; None masks none.
    window, groups
        As of :func:`convolution_forward`.

    Returns
    -------
    y : array, shape (batch, out_channels, out_height, out_width)
        ``theta * x + sqrt(sigma2 * x^2 + 1e-8) noise + b``, ``*`` a convolution.
    residual : array, same shape
        ``noise / (2 std)``: all that the backward pass needs besides the arguments.
    """
    theta, sigma2 = masked_posterior(theta, log_sigma2, threshold)
    xp = array_namespace(x, theta)
    columns = unfold(x, window)
    mean = _images(_products(theta, columns, groups), x, window)
    # What was unfolded is squared: to square first would mean to unfold twice.
    variance = _images(_products(sigma2, xp.square(columns), groups), x, window)
    std = xp.sqrt(variance + 1e-8)
    return _biased(mean + std * noise, b), noise / std * 0.5


@Kernel
def vd_convolution_backward(
    gy: Array,
    x: Array,
    theta: Array,
    log_sigma2: Array,
    residual: Array,
    threshold: float | None,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[Array | None, Array, Array, Array]:
    """Gradients of :func:`vd_convolution_forward`.

    Returns
    -------
    gx : array, shape of `x`, or None
        None unless `need_x`.
    gtheta, glog_sigma2 : array, shape of `theta`
    gb : array, shape (out_channels,)
    """
    xp = array_namespace(gy, x, theta)
    keep = None
    if threshold is not None:
        keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    theta, sigma2 = masked_posterior(theta, log_sigma2, threshold)
    gvariance = gy * residual
    columns = unfold(x, window)
    gtheta = _weight_gradient(gy, columns, theta, groups)
    if keep is not None:
        gtheta = xp.where(keep, gtheta, xp.zeros_like(gtheta))
    gsigma2 = _weight_gradient(gvariance, xp.square(columns), theta, groups)
    gx = None
    if need_x:
        shape = x.shape[2:]
        gx = fold(_input_gradient(theta, gy, groups), window, shape)
        slope = fold(_input_gradient(sigma2, gvariance, groups), window, shape)
        gx = gx + x * slope * 2
    return gx, gtheta, gsigma2 * sigma2, xp.sum(gy, axis=(0, 2, 3))


def _products(W: Array, columns: Array, groups: int) -> Array:
    """Weights times columns: (batch, groups, channels of a group, positions)."""
    xp = array_namespace(W, columns)
    batch, _, _, positions = columns.shape
    matrix = xp.reshape(W, (groups, W.shape[0] // groups, -1))
    return xp.matmul(matrix, xp.reshape(columns, (batch, groups, -1, positions)))


def _weight_gradient(gy: Array, columns: Array, W: Array, groups: int) -> Array:
    xp = array_namespace(gy, columns)
    batch, channels = gy.shape[:2]
    positions = columns.shape[-1]
    # Examples and positions as one axis: one product a group sums over both.
    slopes = xp.reshape(gy, (batch, groups, channels // groups, positions))
    slopes = xp.permute_dims(slopes, (1, 2, 0, 3))
    slopes = xp.reshape(slopes, (groups, channels // groups, batch * positions))
    met = xp.reshape(columns, (batch, groups, -1, positions))
    met = xp.permute_dims(met, (1, 0, 3, 2))
    met = xp.reshape(met, (groups, batch * positions, -1))
    return xp.reshape(xp.matmul(slopes, met), W.shape)


def _input_gradient(W: Array, gy: Array, groups: int) -> Array:
    """Gradient by the columns, shape (batch, in_channels, elements, positions)."""
    xp = array_namespace(W, gy)
    batch, channels = gy.shape[:2]
    elements = math.prod(W.shape[2:])
    matrix = xp.reshape(W, (groups, channels // groups, -1))
    slopes = xp.reshape(gy, (batch, groups, channels // groups, -1))
    by_columns = xp.matmul(xp.matrix_transpose(matrix), slopes)
    return xp.reshape(by_columns, (batch, groups * W.shape[1], elements, -1))


def _images(y: Array, x: Array, window: Window) -> Array:
    xp = array_namespace(y)
    positions = window.positions(x.shape[2:])
    return xp.reshape(y, (x.shape[0], y.shape[1] * y.shape[2], *positions))


def _biased(y: Array, b: Array | None) -> Array:
    if b is None:
        return y
    xp = array_namespace(y, b)
    return y + xp.reshape(b, (1, -1, 1, 1))
