"""Batch normalisation."""

from __future__ import annotations

import math

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive

EPS = 2e-5  # Chainer's; torch has 1e-5


class _ForwardPass:
    """Hands mean and variance of the batch on, outside the tape."""

    __slots__ = ("eps", "mean", "variance")
    mean: Array
    variance: Array

    def __init__(self, eps: float) -> None:
        self.eps = eps


@primitive
def _batch_normalization(x, gamma, beta, context):
    y, context.mean, context.variance = kernels.batch_normalization_forward(
        x, gamma, beta, context.eps
    )
    return y


def _batch_normalization_vjp(argnums, y, args, kwargs):
    x, gamma, _, context = args

    def vjp(gy: Array):
        gradients = kernels.batch_normalization_backward(
            gy, x, gamma, context.mean, context.variance, context.eps
        )
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_batch_normalization, _batch_normalization_vjp)


def batch_normalization(
    x: Array, gamma: Array, beta: Array, *, eps: float = EPS
) -> Array:
    """Give each channel of a batch a mean and a standard deviation that are learnt.

    :class:`vdcore.links.BatchNormalization` keeps running statistics besides, for use
    with :func:`fixed_batch_normalization`.

    Parameters
    ----------
    x : array, shape (batch, channels, ...)
        Mean and variance are taken over all axes but that of the channels.
    gamma, beta : array, shape (channels,)
        Standard deviation and mean of the result.
    eps : float
        Added to the variances. Chainer's default; torch has 1e-5.

    Returns
    -------
    array, shape of `x`
        ``gamma (x - mean) / sqrt(variance + eps) + beta``, dtype of `x` (Ioffe and
        Szegedy 2015, algorithm 1).

    Raises
    ------
    ValueError
        If the shapes do not fit, the batch is empty, or a channel has one value only.
    TypeError
        If one of them is no array of floating-point numbers, or the dtypes or
        libraries differ.
    """
    return normalized_batch(x, gamma, beta, eps)[0]


def normalized_batch(
    x: Array, gamma: Array, beta: Array, eps: float
) -> tuple[Array, Array, Array]:
    """As :func:`batch_normalization`, with mean and variance of the batch.

    Returns
    -------
    y : array, shape of `x`
    mean, variance : array, shape (channels,)
        Not traced. The variance is the mean of squared deviations, which
        underestimates that of the data by ``(m - 1) / m`` with m values a channel.
    """
    operation = "batch_normalization"
    _check(operation, x, gamma=gamma, beta=beta)
    shape = tuple(x.shape)
    if values_per_channel(shape) < 2:
        message = (
            f"{operation}: `x` must have two or more values in each channel, for one "
            f"has no variance, got shape {shape}; give a larger batch, or leave out "
            "a last batch of one example"
        )
        raise ValueError(message)
    context = _ForwardPass(eps)
    y = _batch_normalization(x, gamma, beta, context)
    return y, context.mean, context.variance


def values_per_channel(shape: tuple[int, ...]) -> int:
    """How many numbers a channel of a batch of this shape has."""
    return shape[0] * math.prod(shape[2:])


@primitive
def _fixed_batch_normalization(x, gamma, beta, mean, variance, eps):
    return kernels.fixed_batch_normalization_forward(
        x, gamma, beta, mean, variance, eps
    )


def _fixed_batch_normalization_vjp(argnums, y, args, kwargs):
    x, gamma, _, mean, variance, eps = args

    def vjp(gy: Array):
        gx, ggamma, gbeta = kernels.fixed_batch_normalization_backward(
            gy, x, gamma, mean, variance, eps
        )
        xp = array_namespace(gamma, variance)
        rules = (
            lambda: gx,
            lambda: ggamma,
            lambda: gbeta,
            lambda: -gbeta * gamma / xp.sqrt(variance + eps),
            lambda: -ggamma * gamma / (variance + eps) * 0.5,
        )
        return [rules[argnum]() for argnum in argnums]

    return vjp


defvjp_argnums(_fixed_batch_normalization, _fixed_batch_normalization_vjp)


def fixed_batch_normalization(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float = EPS
) -> Array:
    """As :func:`batch_normalization`, with statistics that are given.

    Parameters
    ----------
    x : array, shape (batch, channels, ...)
    gamma, beta, mean, var : array, shape (channels,)
    eps : float

    Returns
    -------
    array, shape of `x`
        ``gamma (x - mean) / sqrt(var + eps) + beta``, dtype of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit or the batch is empty.
    TypeError
        If one of them is no array of floating-point numbers, or the dtypes or
        libraries differ.
    """
    statistics = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    _check("fixed_batch_normalization", x, **statistics)
    return _fixed_batch_normalization(x, gamma, beta, mean, var, eps)


def _check(operation: str, x: Array, **by_channel: Array) -> None:
    """Raise unless the arrays go together; those by channel by their arguments."""
    for argument, array in {"x": x, **by_channel}.items():
        check_array(operation, argument, array)
    xp = array_namespace(x, *by_channel.values())
    dtype, shape = untraced(x).dtype, tuple(x.shape)
    if len(shape) < 2 or 0 in shape:
        message = (
            f"{operation}: `x` must have shape (batch, channels, ...), none of them 0, "
            f"got {shape}"
        )
        raise ValueError(message)
    if not xp.isdtype(dtype, "real floating"):
        message = f"{operation}: `x` must hold floating-point numbers, got {dtype}"
        raise TypeError(message)
    for argument, array in by_channel.items():
        array = untraced(array)
        if tuple(array.shape) != shape[1:2]:
            message = (
                f"{operation}: `{argument}` must have shape {shape[1:2]} to go with "
                f"`x` of shape {shape}, got {tuple(array.shape)}"
            )
            raise ValueError(message)
        if array.dtype != dtype:
            message = (
                f"{operation}: `{argument}` must have the dtype of `x`, {dtype}, got "
                f"{array.dtype}; convert the data once, before training"
            )
            raise TypeError(message)
