"""Which weights are noise: keep masks, sparsity, dropout rates."""

from __future__ import annotations

from vdcore.arrays import Array
from vdcore.variational.checks import floating_namespace, mask_namespace
from vdcore.variational.special import sigmoid

THRESHOLD = 3.0  # Molchanov et al. 2017, section 4.4: a dropout rate of 0.9526


def keep_mask(log_alpha: Array, threshold: float = THRESHOLD) -> Array:
    """Mask of the weights to keep: those whose log alpha is not above the threshold.

    Parameters
    ----------
    log_alpha : array
    threshold : float
        On log alpha (not alpha, not the dropout rate).

    Returns
    -------
    array of bool
        False where the weight is noise. A NaN is kept, so that a mask never hides it.

    Raises
    ------
    TypeError
        If the dtype is not real floating.

    Examples
    --------
    >>> import numpy
    >>> keep_mask(numpy.asarray([-2.0, 3.0, 3.1]))
    array([ True,  True, False])
    """
    xp = floating_namespace("keep_mask", log_alpha=log_alpha)
    return xp.logical_not(log_alpha > threshold)


def sparsity(keep: Array) -> Array:
    """Fraction of weights that a keep mask removes, a 0-d array in [0, 1].

    Raises
    ------
    ValueError
        If the mask is empty.
    TypeError
        If it is no array of booleans.
    """
    xp = mask_namespace("sparsity", keep)
    size = 1
    for n in keep.shape:
        size *= n
    if size == 0:
        message = f"sparsity: `keep` must have elements, got shape {tuple(keep.shape)}"
        raise ValueError(message)
    return 1 - xp.astype(xp.count_nonzero(keep), _real_dtype(xp)) / size


def dropout_rate(log_alpha: Array) -> Array:
    """Equivalent binary dropout rate ``p = alpha / (1 + alpha)``, a fraction.

    Raises
    ------
    TypeError
        If the dtype is not real floating.

    Examples
    --------
    >>> import numpy
    >>> dropout_rate(numpy.asarray(3.0)).round(6)
    np.float64(0.952574)
    """
    floating_namespace("dropout_rate", log_alpha=log_alpha)
    return sigmoid(log_alpha)


def _real_dtype(xp):
    return xp.empty(0).dtype
