"""Weights drawn from their posterior."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel
from vdcore.variational.pruning import keep_mask
from vdcore.variational.reparameterization import log_alpha


@Kernel
def sample_weights(
    theta: Array, log_sigma2: Array, noise: Array, threshold: float | None
) -> Array:
    """Weights ``theta + exp(log_sigma2 / 2) noise``; 0 above a threshold on log alpha.

    Parameters
    ----------
    theta, log_sigma2 : array, same shape
    noise : array, same shape
        Standard normal draws. The backward pass needs them: they are left as they are.
    threshold : float or None
        None masks none.
    """
    xp = array_namespace(theta, log_sigma2, noise)
    W = theta + xp.exp(log_sigma2 * 0.5) * noise
    if threshold is None:
        return W
    keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    return xp.where(keep, W, xp.zeros_like(W))


@Kernel
def sample_weights_backward(
    gW: Array, theta: Array, log_sigma2: Array, noise: Array, threshold: float | None
) -> tuple[Array, Array]:
    """Gradients of :func:`sample_weights` by theta and log_sigma2; 0 where masked."""
    xp = array_namespace(gW, theta, log_sigma2)
    if threshold is not None:
        keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
        gW = xp.where(keep, gW, xp.zeros_like(gW))
    return gW, gW * noise * xp.exp(log_sigma2 * 0.5) * 0.5
