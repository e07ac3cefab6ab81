"""Activation functions, elementwise unless said otherwise."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, array_namespace
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.recording import recordable
from vdcore.variational import special


@primitive
def _relu(x: Array) -> Array:
    return kernels.relu_forward(x)


def _relu_vjp(argnums, y, args, kwargs):
    return lambda gy: [kernels.relu_backward(gy, y)]


defvjp_argnums(_relu, _relu_vjp)


@recordable("relu")
def relu(x: Array) -> Array:
    """Rectifier, ``max(x, 0)``; slope 0 at 0."""
    return _relu(x)


@recordable("tanh")
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return array_namespace(x).tanh(x)


@recordable("sigmoid")
def sigmoid(x: Array) -> Array:
    """Logistic function, ``1 / (1 + exp(-x))``."""
    return special.sigmoid(x)


@recordable("softmax")
def softmax(x: Array) -> Array:
    """Class probabilities ``exp(x) / sum(exp(x))`` over the last axis."""
    xp = array_namespace(x)
    exponentials = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)
