"""Layers whose weights may have a posterior: local reparameterisation with a key.

With a key the output is sampled, with noise of its own for each output of each example;
without one it is that of the pruned means. Plain weights give the plain layer, so one
model function serves both.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from vdcore import variational
from vdcore.arrays import Array
from vdcore.backends.jax_functions.checks import (
    check_jax_array,
    check_key,
    check_shape,
)
from vdcore.backends.jax_functions.posterior import (
    Posterior,
    check_posterior,
    is_posterior,
    masked,
)
from vdcore.kernels.sampling import sample_weights
from vdcore.variational.checks import floating_namespace
from vdcore.variational.pruning import THRESHOLD


def split(key: Array | None, number: int) -> Any:
    """So many keys of one, or None of None: a model without a key is in evaluation."""
    if key is None:
        return [None] * number
    check_key("split", key)
    return jax.random.split(key, number)


def linear(
    W: Posterior | Array,
    x: Array,
    b: Array | None = None,
    *,
    key: Array | None = None,
    threshold: float = THRESHOLD,
) -> Array:
    """Affine map ``x W + b``, sampled if there is a key.

    Parameters
    ----------
    W : Posterior or jax.Array, shape (in_size, out_size)
        As JAX's networks have it, the transpose of vdcore's links.
    x : jax.Array, shape (..., in_size)
    b : jax.Array, shape (out_size,), optional
    key : jax.Array, optional
        A key of JAX's random numbers. Not used by plain weights.
    threshold : float
        Without a key: weights with log alpha above it are left out.

    Returns
    -------
    jax.Array, shape (..., out_size)
        dtype of `x`. With a key ``x theta + sqrt(x^2 sigma2 + 1e-8) * noise + b``
        (Molchanov et al. 2017, equation 17).

    Raises
    ------
    ValueError
        If the shapes do not fit, or `key` is more than one.
    TypeError
        If one of them is no array of JAX, the dtypes differ, or `key` is no key.
    """
    theta = _checked("linear", W, x, b, key)
    shape = tuple(theta.shape)
    check_shape("linear", "W", theta, "(in_size, out_size)", len(shape) == 2)
    in_size, out_size = shape
    check_shape("linear", "x", x, f"(..., {in_size})", x.shape[-1:] == (in_size,))
    if b is not None:
        check_shape("linear", "b", b, f"({out_size},)", b.shape == (out_size,))
    if not is_posterior(W) or key is None:
        y = x @ _mean(W, threshold)
        return y if b is None else y + b
    rows = _wide(jnp.reshape(x, (math.prod(x.shape[:-1]), in_size)))
    posterior = _wide(W.theta.T), _wide(W.log_sigma2.T)
    bias = None if b is None else _wide(b)
    moments = variational.linear_moments(rows, *posterior, bias)
    y = jnp.astype(_sample(key, *moments), x.dtype)
    return jnp.reshape(y, (*x.shape[:-1], out_size))


def convolution(
    W: Posterior | Array,
    x: Array,
    b: Array | None = None,
    *,
    key: Array | None = None,
    threshold: float = THRESHOLD,
    window_strides: Any = None,
    padding: Any = "VALID",
    dimension_numbers: Any = None,
    **options: Any,
) -> Array:
    """Convolution over any number of axes, sampled if there is a key.

    Parameters
    ----------
    W : Posterior or jax.Array
        Kernel, by default of shape (out_channels, in_channels, *window).
    x : jax.Array
        Batch, by default of shape (batch, in_channels, *size).
    b : jax.Array, shape (out_channels,), optional
    key, threshold
        As of :func:`linear`.
    window_strides : sequence of int, optional
        Default 1 for each axis.
    padding : str or sequence of pairs of int
    dimension_numbers : optional
        Where the axes are, for example ``("NHWC", "HWIO", "NHWC")``.
    **options
        Further arguments of ``jax.lax.conv_general_dilated``, such as `rhs_dilation`
        and `feature_group_count`.

    Returns
    -------
    jax.Array
        dtype of `x`. With a key ``theta * x + sqrt(sigma2 * x^2 + 1e-8) noise + b``
        with ``*`` the convolution (Molchanov et al. 2017, section 4.4).

    Raises
    ------
    ValueError, TypeError
        As :func:`linear`, or as JAX's function.
    """
    theta = _checked("convolution", W, x, b, key)
    axes = len(theta.shape)
    expected = f"of {axes} axes, as `W`"
    check_shape("convolution", "x", x, expected, axes == len(x.shape) > 2)
    numbers = jax.lax.conv_dimension_numbers(x.shape, theta.shape, dimension_numbers)
    out_channels = theta.shape[numbers.rhs_spec[0]]
    if b is not None:
        right = b.shape == (out_channels,)
        check_shape("convolution", "b", b, f"({out_channels},)", right)
        shape = [1] * axes
        shape[numbers.out_spec[1]] = out_channels
        b = jnp.reshape(b, shape)

    def convolve(images: Array, kernel: Array) -> Array:
        strides = (1,) * (axes - 2) if window_strides is None else window_strides
        return jax.lax.conv_general_dilated(
            images, kernel, strides, padding, dimension_numbers=numbers, **options
        )

    if not is_posterior(W) or key is None:
        y = convolve(x, _mean(W, threshold))
    else:
        variance = convolve(jnp.square(_wide(x)), jnp.exp(_wide(W.log_sigma2)))
        mean = convolve(_wide(x), _wide(theta))
        y = jnp.astype(_sample(key, mean, variance), x.dtype)
    return y if b is None else y + b


def embedding(
    W: Posterior | Array,
    ids: Array,
    *,
    key: Array | None = None,
    threshold: float = THRESHOLD,
) -> Array:
    """Rows of a table by their numbers, each sampled by itself if there is a key.

    Parameters
    ----------
    W : Posterior or jax.Array, shape (rows, size)
    ids : jax.Array of integers, any shape
        In ``0 .. rows - 1``. The row of any other number is NaN: a compiled function
        cannot raise.
    key, threshold
        As of :func:`linear`.

    Returns
    -------
    jax.Array, shape (*ids.shape, size)
        dtype of `W`. With a key ``theta[ids] + sigma[ids] * noise``. (For one draw that
        all places of a word share, take the rows of :func:`sample`'s table.)

    Raises
    ------
    ValueError, TypeError
        As :func:`linear`; also if `ids` are no integers.
    """
    check_jax_array("embedding", "ids", ids)
    theta = _checked("embedding", W, None, None, key)
    check_shape("embedding", "W", theta, "(rows, size)", len(theta.shape) == 2)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        message = (
            f"embedding: `ids` must be integers, the numbers of rows, got {ids.dtype}; "
            "convert them, for example to int32"
        )
        raise TypeError(message)
    # JAX counts a negative number from the end, and takes the last row for a large one.
    known = jnp.where(ids < 0, theta.shape[0], ids)

    def rows(table: Array) -> Array:
        return table.at[known].get(mode="fill", fill_value=jnp.nan)

    if not is_posterior(W):
        return rows(W)
    mean, log_sigma2 = rows(W.theta), rows(W.log_sigma2)
    if key is None:
        return masked(Posterior(mean, log_sigma2), threshold)
    return sample_weights(mean, log_sigma2, _noise(key, mean), None)


def _checked(
    operation: str,
    W: Posterior | Array,
    x: Array | None,
    b: Array | None,
    key: Array | None,
) -> Array:
    """The means of the weights, or plain ones, after all arguments are checked."""
    if key is not None:
        check_key(operation, key)
    if is_posterior(W):
        check_posterior(operation, W)
    theta = W.theta if is_posterior(W) else W
    given = {"x": x, "b": b}
    arrays = {"W": theta} | {k: v for k, v in given.items() if v is not None}
    for argument, array in arrays.items():
        check_jax_array(operation, argument, array)
    floating_namespace(operation, **arrays)
    return theta


def _mean(W: Posterior | Array, threshold: float) -> Array:
    return masked(W, threshold) if is_posterior(W) else W


def _wide(x: Array) -> Array:
    """In float32 at least: squares and variances of half precision overflow."""
    return jnp.astype(x, jnp.promote_types(x.dtype, jnp.float32))


def _sample(key: Array, mean: Array, variance: Array) -> Array:
    return variational.sample(mean, variance, _noise(key, mean))


def _noise(key: Array, like: Array) -> Array:
    return jax.random.normal(key, like.shape, like.dtype)
