"""The KL divergence of a layer's weights."""

from __future__ import annotations

from typing import NamedTuple

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel
from vdcore.variational.kl import (
    kl_sparse_vd,
    kl_sparse_vd_exact,
    kl_sparse_vd_exact_grad,
    kl_sparse_vd_grad,
)
from vdcore.variational.pruning import dropout_rate, keep_mask
from vdcore.variational.reparameterization import log_alpha, log_alpha_grad

KL = {
    "molchanov": (kl_sparse_vd, kl_sparse_vd_grad),
    "exact": (kl_sparse_vd_exact, kl_sparse_vd_exact_grad),
}


class TotalPenalty(NamedTuple):
    """What the penalties of a network's layers come to; see :func:`total_penalty`."""

    value: Array
    weighted: Array
    mean_rate: Array
    sparsity: Array
    compression: Array


class Penalty(NamedTuple):
    """What one pass over a layer's weights yields; see :func:`sparse_vd_penalty`."""

    value: Array
    theta_gradient: Array
    log_sigma2_gradient: Array
    rate_sum: Array
    kept: Array


@Kernel
def sparse_vd_penalty(
    theta: Array,
    log_sigma2: Array,
    threshold: float,
    masked: bool,
    kl: str,
    clip: float | None,
    scale: float,
) -> Penalty:
    """KL of all weights of a layer with its gradients and statistics, in one pass.

    Parameters
    ----------
    theta, log_sigma2 : array, same shape
    threshold : float
        Weights with log alpha above it do not count as kept.
    masked : bool
        Whether those weights are left out of the KL (masks in training).
    kl : {"molchanov", "exact"}
    clip : float or None
        Log alpha is limited to ``[-clip, clip]``; no gradient outside.
    scale : float
        Multiplies the gradients.

    Returns
    -------
    Penalty
        value: the summed KL in nats, unscaled; the gradients of ``scale * value`` by
        theta and log_sigma2; the sum of the dropout rates; the number of weights
        kept. The three sums are 0-d arrays of the dtype of `theta`.
    """
    xp = array_namespace(theta, log_sigma2)
    divergence, slope = KL[kl]
    raw = log_alpha(theta, log_sigma2)
    la = raw if clip is None else xp.clip(raw, -clip, clip)
    keep = keep_mask(raw, threshold)
    counted = xp.ones_like(keep) if not masked else keep
    sloped = counted if clip is None else counted & (xp.abs(raw) < clip)
    zero = xp.zeros_like(la)
    by_log_sigma2 = xp.where(sloped, slope(la) * scale, zero)
    return Penalty(
        xp.sum(xp.where(counted, divergence(la), zero)),
        by_log_sigma2 * log_alpha_grad(theta),
        by_log_sigma2,
        xp.sum(dropout_rate(la)),
        xp.sum(xp.astype(keep, theta.dtype)),
    )


@Kernel
def total_penalty(
    values: list[Array],
    rate_sums: list[Array],
    kept: list[Array],
    scales: list[float],
    factors: list[float | Array],
    size: int,
) -> TotalPenalty:
    """Add up what :func:`sparse_vd_penalty` yields for the layers of a network.

    Parameters
    ----------
    values : list of array, shape ()
        Of each layer.
    rate_sums, kept : list of array, shape ()
        Of the first layers, those whose weights are counted.
    scales, factors : list of float
        A layer's value counts so much in `value`, and in `weighted`; factors may be
        arrays of shape ().
    size : int
        Number of weights that are counted.

    Returns
    -------
    TotalPenalty
        The two weighted sums, the mean dropout rate, the fraction of weights not
        kept, and weights over those kept, infinite if none is; arrays of shape ().
    """
    xp = array_namespace(*values)
    left = sum(kept)
    one = xp.ones_like(left)
    return TotalPenalty(
        sum(value * scale for value, scale in zip(values, scales, strict=True)),
        sum(value * factor for value, factor in zip(values, factors, strict=True)),
        sum(rate_sums) / size,
        1 - left / size,
        xp.where(left > 0, size / xp.maximum(left, one), one * xp.inf),
    )
