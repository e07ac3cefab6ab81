"""The hot operations: each with a generic definition that a backend may override.

The generic body is plain array-API code. It is the specification, the test oracle and
what runs where a backend has nothing faster for the array type, dtype or layout. A
backend (``vdcore.backends.<library>_backend``) is imported when the first array of
its library reaches a kernel.
"""

from vdcore.kernels.convolution import (
    convolution_backward,
    convolution_forward,
    vd_convolution_backward,
    vd_convolution_forward,
)
from vdcore.kernels.linear import vd_linear_backward, vd_linear_forward
from vdcore.kernels.loss import softmax_cross_entropy
from vdcore.kernels.noise import standard_normal
from vdcore.kernels.optimizers import adam
from vdcore.kernels.penalty import KL, Penalty, sparse_vd_penalty
from vdcore.kernels.table import Kernel

__all__ = [
    "KL",
    "Kernel",
    "Penalty",
    "adam",
    "convolution_backward",
    "convolution_forward",
    "softmax_cross_entropy",
    "sparse_vd_penalty",
    "standard_normal",
    "vd_convolution_backward",
    "vd_convolution_forward",
    "vd_linear_backward",
    "vd_linear_forward",
]
