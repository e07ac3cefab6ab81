"""Sigmoid and softplus that neither overflow nor lose small values."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, accurate for large positive and negative `x`."""
    xp = array_namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(e), e) / (1 + e)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``, accurate for large positive and negative `x`."""
    xp = array_namespace(x)
    size = xp.abs(x)
    return (x + size) * 0.5 + xp.log1p(xp.exp(-size))
