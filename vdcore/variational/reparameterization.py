"""From weights to noisy pre-activations: log alpha, moments, samples."""

from __future__ import annotations

import math

from vdcore.arrays import Array
from vdcore.variational.checks import check_same_shape, floating_namespace

EPS = 1e-8  # keeps log theta^2 and the square root's derivative finite at 0


def log_alpha(
    theta: Array, log_sigma2: Array, *, eps: float = EPS, clip: float | None = None
) -> Array:
    """Log noise-to-signal ratio of weights, ``log sigma2 - log(theta^2 + eps)``.

    Parameters
    ----------
    theta : array
        Posterior means, any shape.
    log_sigma2 : array
        Log posterior variances, same shape.
    eps : float
        Added to ``theta^2``.
    clip : float, optional
        Limit the result to ``[-clip, clip]``. Default no limit.

    Returns
    -------
    array
        Same shape and dtype. Finite for every finite weight in every floating
        dtype: the square is never formed, so half precision neither overflows
        nor underflows.

    Raises
    ------
    ValueError
        If the shapes differ, or `clip` is not positive.
    TypeError
        If the libraries or dtypes differ, or the dtype is not real floating.

    Notes
    -----
    Molchanov et al. 2017, section 4.2 (additive noise reparameterisation).

    Examples
    --------
    >>> import numpy
    >>> log_alpha(numpy.asarray([0.5, -1.0]), numpy.asarray([-2.0, 0.0])).round(6)
    array([-0.613706, -0.      ])
    """
    xp = floating_namespace("log_alpha", theta=theta, log_sigma2=log_sigma2)
    check_same_shape("log_alpha", theta=theta, log_sigma2=log_sigma2)
    if clip is not None and not clip > 0:
        message = f"log_alpha: `clip` must be positive or None, got {clip!r}"
        raise ValueError(message)
    larger, ratio = _theta_and_floor(xp, theta, eps)
    result = log_sigma2 - (xp.log(larger) * 2 + xp.log1p(ratio * ratio))
    return result if clip is None else xp.clip(result, -clip, clip)


def log_alpha_grad(theta: Array, *, eps: float = EPS) -> Array:
    """Derivative of :func:`log_alpha` by `theta`: ``-2 theta / (theta^2 + eps)``.

    Unclipped; the derivative by `log_sigma2` is 1.

    Raises
    ------
    TypeError
        If the dtype is not real floating.
    """
    xp = floating_namespace("log_alpha_grad", theta=theta)
    larger, ratio = _theta_and_floor(xp, theta, eps)
    return theta / larger / larger * -2 / (ratio * ratio + 1)


def _theta_and_floor(xp, theta: Array, eps: float) -> tuple[Array, Array]:
    """``max(|theta|, sqrt(eps))`` and the smaller of the two over the larger."""
    size = xp.abs(theta)
    floor = xp.ones_like(size) * math.sqrt(eps)
    larger = xp.where(size > floor, size, floor)
    return larger, xp.where(size > floor, floor, size) / larger


def linear_moments(
    x: Array, theta: Array, log_sigma2: Array, b: Array | None = None
) -> tuple[Array, Array]:
    """Mean and variance of a linear layer's pre-activations.

    Parameters
    ----------
    x : array, shape (batch, in_size)
    theta, log_sigma2 : array, shape (out_size, in_size)
    b : array, shape (out_size,), optional

    Returns
    -------
    mean, variance : array, shape (batch, out_size)
        dtype of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If the libraries or dtypes differ, or the dtype is not real floating.

    Notes
    -----
    Kingma et al. 2015; Molchanov et al. 2017, equation 17 (local
    reparameterisation)::

        mean = x theta^T + b,    variance = x^2 sigma2^T

    Examples
    --------
    >>> import numpy
    >>> x = numpy.asarray([[1.0, 2.0]])
    >>> theta, log_sigma2 = numpy.asarray([[0.5, -1.0]]), numpy.asarray([[-2.0, 0.0]])
    >>> mean, variance = linear_moments(x, theta, log_sigma2)
    >>> mean, variance.round(6)
    (array([[-1.5]]), array([[4.135335]]))
    """
    pair = {"theta": theta, "log_sigma2": log_sigma2}
    bias = {} if b is None else {"b": b}
    xp = floating_namespace("linear_moments", **pair, x=x, **bias)
    if len(theta.shape) != 2:
        message = (
            "linear_moments: `theta` must have shape (out_size, in_size), got "
            f"{tuple(theta.shape)}; reshape it"
        )
        raise ValueError(message)
    check_same_shape("linear_moments", **pair)
    out_size, in_size = theta.shape
    if len(x.shape) != 2 or x.shape[1] != in_size:
        message = (
            f"linear_moments: `x` must have shape (batch, {in_size}) to go with "
            f"`theta` of shape {tuple(theta.shape)}, got {tuple(x.shape)}; give one "
            "row for each example"
        )
        raise ValueError(message)
    if b is not None and tuple(b.shape) != (out_size,):
        message = (
            f"linear_moments: `b` must have shape ({out_size},) to go with `theta` of "
            f"shape {tuple(theta.shape)}, got {tuple(b.shape)}; reshape it"
        )
        raise ValueError(message)
    mean = xp.matmul(x, xp.matrix_transpose(theta))
    if b is not None:
        mean = mean + b
    sigma2 = xp.exp(log_sigma2)
    return mean, xp.matmul(xp.square(x), xp.matrix_transpose(sigma2))


def sample(mean: Array, variance: Array, noise: Array, *, eps: float = EPS) -> Array:
    """Reparameterised Gaussian sample, ``mean + sqrt(variance + eps) * noise``.

    Parameters
    ----------
    mean, variance : array
        Moments, for example from :func:`linear_moments`.
    noise : array
        Standard normal draws of the same shape.
    eps : float
        Keeps the derivative finite where the variance is 0; raised to the smallest
        normal number of the dtype where that is larger.

    Returns
    -------
    array
        Same shape and dtype.

    Raises
    ------
    ValueError
        If the shapes differ: noise is never shared between elements.
    TypeError
        If the libraries or dtypes differ, or the dtype is not real floating.
    """
    arrays = {"mean": mean, "variance": variance, "noise": noise}
    xp = floating_namespace("sample", **arrays)
    check_same_shape("sample", **arrays)
    floor = max(eps, float(xp.finfo(variance.dtype).smallest_normal))
    return mean + xp.sqrt(variance + floor) * noise
