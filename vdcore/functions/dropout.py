"""Dropout of activations."""

from __future__ import annotations

import numpy

from vdcore import kernels
from vdcore.arrays import Array, check_array, untraced
from vdcore.configuration import config


def dropout(
    x: Array,
    ratio: float = 0.5,
    *,
    mask: Array | None = None,
    rng: numpy.random.Generator | None = None,
) -> Array:
    """Set activations to 0 at random in training, and scale up the others.

    Outside of training (``config.train`` False) it returns `x`.

    Parameters
    ----------
    x : array
    ratio : float
        Probability of each activation to become 0, in [0, 1).
    mask : array, shape of `x`, optional
        Factors to multiply by, such as :func:`vdcore.kernels.dropout_mask` draws; with
        it the function is a pure one, and `ratio` is not read.
    rng : numpy.random.Generator, optional
        To draw the mask from. Default ``config.rng``, which no snapshot holds: for a
        training that resumes bit for bit use :class:`vdcore.links.Dropout`.

    Returns
    -------
    array, shape of `x`
        ``x * mask``, by default 0 or ``x / (1 - ratio)``; dtype of `x` (Srivastava et
        al. 2014, section 10, scaled in training rather than at test time).

    Raises
    ------
    ValueError
        If `ratio` is out of range or the shape of `mask` is not that of `x`.
    TypeError
        If `x` or `mask` is no array, or they differ in dtype or library.
    """
    check_ratio("dropout", ratio)
    if not config.train:
        return x
    check_array("dropout", "x", x)
    like = untraced(x)
    if mask is None:
        if ratio == 0:
            return x
        mask = kernels.dropout_mask(like, config.rng if rng is None else rng, ratio)
    check_array("dropout", "mask", mask)
    if tuple(mask.shape) != tuple(like.shape):
        message = (
            f"dropout: `mask` must have the shape of `x`, {tuple(like.shape)}, got "
            f"{tuple(mask.shape)}"
        )
        raise ValueError(message)
    if mask.dtype != like.dtype:
        message = (
            f"dropout: `mask` must have the dtype of `x`, {like.dtype}, got "
            f"{mask.dtype}; draw it by kernels.dropout_mask"
        )
        raise TypeError(message)
    return x * mask


def check_ratio(operation: str, ratio: float) -> None:
    """Raise unless `ratio` is a probability below 1."""
    if not 0 <= ratio < 1:
        message = f"{operation}: `ratio` must lie in [0, 1), got {ratio!r}"
        raise ValueError(message)
