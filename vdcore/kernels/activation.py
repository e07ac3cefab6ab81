"""Activation functions."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def relu_forward(x: Array) -> Array:
    """Rectifier, ``max(x, 0)``."""
    return array_namespace(x).maximum(x, 0)


@Kernel
def relu_backward(gy: Array, y: Array) -> Array:
    """Gradient of :func:`relu_forward` from its output; slope 0 at 0."""
    xp = array_namespace(gy, y)
    return xp.where(y > 0, gy, xp.zeros_like(gy))
