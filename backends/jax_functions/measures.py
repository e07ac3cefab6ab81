"""The KL divergence of a tree of posteriors, and what pruning leaves of it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy

from vdcore.arrays import Array, to_numpy
from vdcore.backends.jax_functions.posterior import (
    Tree,
    is_posterior,
    leaves,
    posteriors,
)
from vdcore.variational import kl_sparse_vd, kl_sparse_vd_exact
from vdcore.variational.counting import LayerSize, NetworkSize, layer_size
from vdcore.variational.pruning import THRESHOLD, keep_mask
from vdcore.variational.reparameterization import log_alpha

KINDS = {"molchanov": kl_sparse_vd, "exact": kl_sparse_vd_exact}


def kl(params: Tree, kind: str = "molchanov", *, clip: float | None = None) -> Array:
    """KL divergence of all posteriors from the log-uniform prior, in nats, summed.

    Parameters
    ----------
    params : pytree
        As of :func:`vdcore.backends.jax_backend.init`.
    kind : {"molchanov", "exact"}
        Equation 14 of Molchanov et al. 2017, or the divergence itself.
    clip : float, optional
        Limit log alpha to ``[-clip, clip]``: no gradient outside. vdcore's links clip
        at 8, as the authors do. Default no limit.

    Returns
    -------
    jax.Array, shape ()
        dtype of the weights, but float32 for half precision. Divide it by the number of
        training examples to add it to a mean loss.

    Raises
    ------
    ValueError
        If there is no Posterior, the two arrays of one differ in shape, `kind` is
        unknown or `clip` not positive.
    TypeError
        If their arrays are not JAX's, of one real floating dtype.
    """
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        message = f"kl: `kind` must be one of {known}; got {kind!r}"
        raise ValueError(message)
    divergence = KINDS[kind]
    return sum(
        # In half precision some ten thousand terms would overflow, or be too coarse.
        jnp.sum(
            divergence(log_alpha(*posterior, clip=clip)),
            dtype=jnp.promote_types(posterior.theta.dtype, jnp.float32),
        )
        for posterior in posteriors("kl", params).values()
    )


def sparsity(params: Tree, threshold: float = THRESHOLD) -> Array:
    """Fraction of the weights with a posterior that pruning removes, 0 to 1.

    Parameters
    ----------
    params : pytree
        As of :func:`vdcore.backends.jax_backend.init`.
    threshold : float
        On log alpha.

    Returns
    -------
    jax.Array, shape ()

    Raises
    ------
    ValueError, TypeError
        If there is no Posterior, or one is not right.
    """
    found = posteriors("sparsity", params).values()
    masks = [keep_mask(log_alpha(*posterior), threshold) for posterior in found]
    kept = sum(jnp.count_nonzero(mask) for mask in masks)
    return 1 - kept / sum(mask.size for mask in masks)


def size(
    params: Tree, threshold: float = THRESHOLD, *, channels_last: bool = False
) -> NetworkSize:
    """The five size measures of the pruned network; print it. Not to be traced.

    Parameters
    ----------
    params : pytree
        As of :func:`vdcore.backends.jax_backend.init`. Of arrays with two axes the
        first is that of the inputs, or of an embedding's rows. Arrays without a
        posterior count as kept, all together.
    threshold : float
        On log alpha.
    channels_last : bool
        Whether kernels of convolutions are (..., in_channels, out_channels), as in
        flax, and not (out_channels, in_channels, ...), as is JAX's default.

    Raises
    ------
    ValueError, TypeError
        If there is no Posterior, or one is not right.
    """
    posteriors("size", params)
    layers: list[LayerSize] = []
    others = 0
    for path, leaf in leaves(params):
        if is_posterior(leaf):
            keep = keep_mask(log_alpha(*leaf), threshold)  # by JAX, as prune's
            kept, theta, log_sigma2 = (
                _outputs_first(weights, channels_last) for weights in (keep, *leaf)
            )
            layers.append(layer_size(path, kept, theta, log_sigma2))
        else:
            others += leaf.size
    return NetworkSize(tuple(layers), threshold, others)


def _outputs_first(weights: Array, channels_last: bool) -> numpy.ndarray:
    """Weights on the host, with the axes (outputs, inputs, ...) of vdcore's links."""
    weights = to_numpy(weights)
    if weights.dtype.itemsize == 2:  # NumPy takes bfloat16 for no floating dtype
        weights = weights.astype(numpy.float32)
    if weights.ndim < 2:  # a scale for each unit
        return weights.reshape(-1, 1)
    if weights.ndim == 2 or channels_last:
        return numpy.moveaxis(weights, (-1, -2), (0, 1))
    return weights
