"""Regression loss."""

from __future__ import annotations

import math

from vdcore.arrays import Array, untraced
from vdcore.autodiff import attach_gradients
from vdcore.variational.checks import check_same_shape, floating_namespace


def mean_squared_error(x: Array, t: Array) -> Array:
    """Mean of ``(x - t)^2`` over all elements, in squared units of `t`.

    Parameters
    ----------
    x, t : array
        Predictions and what they should be: same shape and dtype.

    Returns
    -------
    array, shape ()
        dtype of `x`; differentiable by both.

    Raises
    ------
    ValueError
        If the shapes differ (neither is broadcast) or there are no elements.
    TypeError
        If one is no array, the dtype is not real floating, or the libraries or dtypes
        differ.
    """
    arrays = {"x": untraced(x), "t": untraced(t)}
    xp = floating_namespace("mean_squared_error", **arrays)
    check_same_shape("mean_squared_error", **arrays)
    size = math.prod(x.shape)
    if size == 0:
        message = (
            "mean_squared_error: `x` must have elements, got shape "
            f"{tuple(x.shape)}; the mean of none is undefined"
        )
        raise ValueError(message)
    error = arrays["x"] - arrays["t"]
    gradient = error * (2 / size)
    return attach_gradients(xp.mean(error * error), [x, t], [gradient, -gradient])
