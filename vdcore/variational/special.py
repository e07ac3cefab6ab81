"""Sigmoid and softplus that neither overflow nor lose small values."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, accurate for large positive and negative `x`."""
    xp = array_namespace(x)
    e = xp.exp(_minus_size(xp, x))
    return xp.where(x >= 0, xp.ones_like(e), e) / (1 + e)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``, accurate for large positive and negative `x`."""
    xp = array_namespace(x)
    positive = xp.where(x >= 0, x, xp.zeros_like(x))
    return positive + xp.log1p(xp.exp(_minus_size(xp, x)))


def _minus_size(xp, x: Array) -> Array:
    """``-abs(x)``, but of slope -1 at 0, which makes both functions' slopes right."""
    return xp.where(x < 0, x, -x)
