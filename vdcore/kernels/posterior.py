"""Weights as a noisy layer takes them."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.variational.pruning import keep_mask
from vdcore.variational.reparameterization import log_alpha


def masked_posterior(
    theta: Array, log_sigma2: Array, threshold: float | None
) -> tuple[Array, Array]:
    """Means and variances; 0 where log alpha is above a threshold."""
    xp = array_namespace(theta, log_sigma2)
    sigma2 = xp.exp(log_sigma2)
    if threshold is None:
        return theta, sigma2
    keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    zero = xp.zeros_like(theta)
    return xp.where(keep, theta, zero), xp.where(keep, sigma2, zero)
