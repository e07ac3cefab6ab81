"""Share of correct classifications."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, untraced
from vdcore.functions.loss import check_labels


def accuracy(x: Array, t: Array) -> Array:
    """Fraction of examples whose largest score is that of their label.

    Parameters
    ----------
    x : array, shape (batch, classes)
        Scores. Not differentiable.
    t : array of integers, shape (batch,)

    Returns
    -------
    array, shape ()
        In [0, 1], dtype of `x`.

    Raises
    ------
    ValueError, TypeError
        As :func:`vdcore.functions.softmax_cross_entropy`.
    """
    check_labels("accuracy", x, t)
    return kernels.accuracy(untraced(x), t)
