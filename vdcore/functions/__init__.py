"""Differentiable functions on arrays of any registered library (Chainer's ``F``)."""

from vdcore.functions.accuracy import accuracy
from vdcore.functions.activation import relu, sigmoid, softmax, tanh
from vdcore.functions.convolution import convolution_2d, vd_convolution_2d
from vdcore.functions.linear import flatten, linear
from vdcore.functions.loss import softmax_cross_entropy
from vdcore.functions.variational import sparse_vd_kl, vd_linear

__all__ = [
    "accuracy",
    "convolution_2d",
    "flatten",
    "linear",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "sparse_vd_kl",
    "tanh",
    "vd_convolution_2d",
    "vd_linear",
]
