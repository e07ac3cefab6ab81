"""Sparse variational dropout in JAX: pure functions of pytrees, with explicit keys.

A tree of weights becomes one of posteriors, for which there is a KL term; models draw
from it with a key, and predict without one::

    from vdcore.backends import jax_backend as vd

    params = vd.init(params)  # weights of two axes and more get a Posterior

    def loss(params, x, t, key):
        y = vd.apply(model, params, x, key=key)  # any model(weights, x)
        return cross_entropy(y, t) + vd.kl(params) / num_examples

    weights = vd.prune(params)
    print(vd.size(params))

:func:`linear`, :func:`convolution` and :func:`embedding` take a Posterior themselves,
and sample by local reparameterisation, which trains better. All but :func:`size` and
:func:`to_cpu_sparse` can be jitted, differentiated and mapped, in float32 and float64.
Arrays are JAX's: a NumPy array is refused, for it would hide a copy in each call.
``docs/jax.md`` is a guide.
"""

from __future__ import annotations

from vdcore.backends.jax_functions.export import (
    AveragePooling,
    Convolution,
    Linear,
    MaxPooling,
    to_cpu_sparse,
)
from vdcore.backends.jax_functions.layers import convolution, embedding, linear, split
from vdcore.backends.jax_functions.measures import kl, size, sparsity
from vdcore.backends.jax_functions.posterior import (
    Posterior,
    apply,
    init,
    prune,
    sample,
)

__all__ = [
    "AveragePooling",
    "Convolution",
    "Linear",
    "MaxPooling",
    "Posterior",
    "apply",
    "convolution",
    "embedding",
    "init",
    "kl",
    "linear",
    "prune",
    "sample",
    "size",
    "sparsity",
    "split",
    "to_cpu_sparse",
]
