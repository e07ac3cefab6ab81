"""Losses, each with its gradient, and how often a classifier is right."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def softmax_cross_entropy(logits: Array, t: Array) -> tuple[Array, Array]:
    """Mean negative log-likelihood of classes under a softmax, and its gradient.

    Parameters
    ----------
    logits : array, shape (batch, classes)
    t : array of integers, shape (batch,)
        Class indices.

    Returns
    -------
    loss : array, shape ()
        Nats per example; NaN if a class index is out of range.
    gradient : array, shape (batch, classes)
        ``(softmax(logits) - onehot(t)) / batch``.
    """
    xp = array_namespace(logits, t)
    batch, classes = logits.shape
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    total = xp.sum(exponentials, axis=1, keepdims=True)
    numbers = xp.arange(classes)
    t = xp.astype(t, numbers.dtype)
    onehot = xp.astype(xp.expand_dims(t, axis=1) == numbers, logits.dtype)
    log_likelihood = xp.sum(shifted * onehot, axis=1) - xp.log(total[:, 0])
    valid = (t >= 0) & (t < classes)
    log_likelihood = xp.where(valid, log_likelihood, log_likelihood * xp.nan)
    return -xp.mean(log_likelihood), (exponentials / total - onehot) / batch


@Kernel
def accuracy(scores: Array, t: Array) -> Array:
    """Fraction of rows whose largest number, the first of equals, is that of the label.

    Parameters
    ----------
    scores : array, shape (batch, classes)
    t : array of integers, shape (batch,)

    Returns
    -------
    array, shape ()
        dtype of `scores`.
    """
    xp = array_namespace(scores, t)
    best = xp.argmax(scores, axis=1)
    hits = best == xp.astype(t, best.dtype)  # the labels' dtype may not hold it
    return xp.mean(xp.astype(hits, scores.dtype))
