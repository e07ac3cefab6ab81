"""The mathematics of sparse variational dropout on any array-API library.

Pure functions: no state, no random numbers, no automatic differentiation, no files.
They take and return NumPy, CuPy, torch, JAX or any other array-API arrays; in torch
and JAX their results are differentiable by the library's own means.

A weight has the posterior ``w ~ N(theta, sigma2)``; ``log_alpha = log sigma2 - log
theta^2`` is its noise-to-signal ratio. Reference: Molchanov, Ashukha, Vetrov,
"Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.
"""

from vdcore.variational.counting import (
    LayerSize,
    NetworkSize,
    exponent_bits,
    layer_size,
    significand_bits,
)
from vdcore.variational.kl import (
    kl_sparse_vd,
    kl_sparse_vd_exact,
    kl_sparse_vd_exact_grad,
    kl_sparse_vd_grad,
)
from vdcore.variational.pruning import dropout_rate, keep_mask, sparsity
from vdcore.variational.reparameterization import (
    linear_moments,
    log_alpha,
    log_alpha_grad,
    sample,
)

__all__ = [
    "LayerSize",
    "NetworkSize",
    "dropout_rate",
    "exponent_bits",
    "keep_mask",
    "kl_sparse_vd",
    "kl_sparse_vd_exact",
    "kl_sparse_vd_exact_grad",
    "kl_sparse_vd_grad",
    "layer_size",
    "linear_moments",
    "log_alpha",
    "log_alpha_grad",
    "sample",
    "significand_bits",
    "sparsity",
]
