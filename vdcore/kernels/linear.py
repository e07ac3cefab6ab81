"""Linear layers, with plain and with noisy weights."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.posterior import masked_posterior
from vdcore.kernels.table import Kernel
from vdcore.variational.pruning import keep_mask
from vdcore.variational.reparameterization import log_alpha


@Kernel
def linear_forward(x: Array, W: Array, b: Array | None) -> Array:
    """Affine map ``x W^T + b`` of rows.

    Parameters
    ----------
    x : array, shape (batch, in_size)
    W : array, shape (out_size, in_size)
    b : array, shape (out_size,), or None
    """
    xp = array_namespace(x, W, b)
    y = xp.matmul(x, xp.matrix_transpose(W))
    return y if b is None else y + b


@Kernel
def linear_backward(
    gy: Array, x: Array, W: Array, need_x: bool
) -> tuple[Array | None, Array, Array]:
    """Gradients of :func:`linear_forward` by x (None unless asked), W and b."""
    xp = array_namespace(gy, x, W)
    gx = xp.matmul(gy, W) if need_x else None
    return gx, xp.matmul(xp.matrix_transpose(gy), x), xp.sum(gy, axis=0)


@Kernel
def vd_linear_forward(
    x: Array,
    theta: Array,
    log_sigma2: Array,
    b: Array | None,
    noise: Array,
    threshold: float | None,
) -> tuple[Array, Array]:
    """Noisy linear layer by local reparameterisation.

    Parameters
    ----------
    x : array, shape (batch, in_size)
    theta, log_sigma2 : array, shape (out_size, in_size)
    b : array, shape (out_size,), or None
    noise : array, shape (batch, out_size)
        Standard normal draws. A backend may reuse its memory.
    threshold : float or None
        Weights with log alpha above it have mean and variance 0; None masks none.

    Returns
    -------
    y : array, shape (batch, out_size)
        ``x theta^T + sqrt(x^2 sigma2^T + 1e-8) * noise + b``
    residual : array, shape (batch, out_size)
        ``noise / (2 std)``: all that the backward pass needs besides the arguments.
    """
    theta, sigma2 = masked_posterior(theta, log_sigma2, threshold)
    xp = array_namespace(x, theta)
    std = xp.sqrt(xp.matmul(xp.square(x), xp.matrix_transpose(sigma2)) + 1e-8)
    y = xp.matmul(x, xp.matrix_transpose(theta)) + std * noise
    return (y if b is None else y + b), noise / std * 0.5


@Kernel
def vd_linear_backward(
    gy: Array,
    x: Array,
    theta: Array,
    log_sigma2: Array,
    residual: Array,
    threshold: float | None,
    need_x: bool,
) -> tuple[Array | None, Array, Array, Array]:
    """Gradients of :func:`vd_linear_forward`.

    Weights are masked again rather than kept: only `residual` lives between the two.

    Returns
    -------
    gx : array, shape (batch, in_size), or None
        None unless `need_x`.
    gtheta, glog_sigma2 : array, shape (out_size, in_size)
    gb : array, shape (out_size,)
    """
    xp = array_namespace(gy, x, theta)
    keep = None
    if threshold is not None:
        keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    theta, sigma2 = masked_posterior(theta, log_sigma2, threshold)
    gvariance = gy * residual
    gtheta = xp.matmul(xp.matrix_transpose(gy), x)
    if keep is not None:
        gtheta = xp.where(keep, gtheta, xp.zeros_like(gtheta))
    gsigma2 = xp.matmul(xp.matrix_transpose(gvariance), xp.square(x))
    gx = None
    if need_x:
        gx = xp.matmul(gy, theta) + x * xp.matmul(gvariance, sigma2) * 2
    return gx, gtheta, gsigma2 * sigma2, xp.sum(gy, axis=0)
