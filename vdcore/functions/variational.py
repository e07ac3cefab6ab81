"""Sparse variational dropout: the noisy linear map and its KL penalty."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, untraced
from vdcore.autodiff import attach_gradients, defvjp_argnums, primitive
from vdcore.functions.linear import check_dtypes, checked_input


class ForwardPass:
    """Hands the forward pass's residual to the backward pass, outside the tape."""

    __slots__ = ("residual", "threshold")

    def __init__(self, threshold: float | None) -> None:
        self.threshold = threshold


@primitive
def _vd_linear(x, W, log_sigma2, b, noise, context):
    y, context.residual = kernels.vd_linear_forward(
        x, W, log_sigma2, b, noise, context.threshold
    )
    return y


def _vd_linear_vjp(argnums, y, args, kwargs):
    x, W, log_sigma2, _, _, context = args

    def vjp(gy: Array):
        gradients = kernels.vd_linear_backward(
            gy, x, W, log_sigma2, context.residual, context.threshold, 0 in argnums
        )
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_vd_linear, _vd_linear_vjp)


def vd_linear(
    x: Array,
    W: Array,
    log_sigma2: Array,
    b: Array | None,
    noise: Array,
    threshold: float | None = None,
) -> Array:
    """Linear map with Gaussian weights, sampled by local reparameterisation.

    Parameters
    ----------
    x : array, shape (batch, ...)
        Trailing axes are flattened; they hold in_size numbers together.
    W, log_sigma2 : array, shape (out_size, in_size)
        Posterior means and log variances.
    b : array, shape (out_size,), or None
    noise : array, shape (batch, out_size)
        Standard normal draws; consumed (a backend may overwrite them).
    threshold : float, optional
        Weights with log alpha above it are masked: mean and variance 0, and no
        gradient. Default no masks.

    Returns
    -------
    array, shape (batch, out_size)
        ``x W^T + sqrt(x^2 exp(log_sigma2)^T + 1e-8) * noise + b``, dtype of `x`
        (Molchanov et al. 2017, equation 17).

    Raises
    ------
    ValueError
        If the shapes do not fit.
    TypeError
        If one of them is no array, or the dtypes or libraries differ.
    """
    x = checked_input("vd_linear", x, W, b)
    check_posterior("vd_linear", W, log_sigma2)
    expected = (untraced(x).shape[0], untraced(W).shape[0])
    check_noise("vd_linear", x, W, noise, expected)
    return _vd_linear(x, W, log_sigma2, b, noise, ForwardPass(threshold))


def sparse_vd_kl(
    W: Array,
    log_sigma2: Array,
    *,
    threshold: float = 3.0,
    masked: bool = False,
    kl: str = "molchanov",
    clip: float | None = None,
    scale: float = 1.0,
) -> tuple[Array, kernels.Penalty]:
    """Scaled KL divergence of a layer's weights, with the layer's statistics.

    Parameters
    ----------
    W, log_sigma2 : array, same shape
        Posterior means and log variances, traced or not.
    threshold : float
        Weights with log alpha above it do not count as kept.
    masked : bool
        Leave those weights out of the sum.
    kl : {"molchanov", "exact"}
        Equation 14 of Molchanov et al. 2017, or the divergence itself.
    clip : float, optional
        Limit log alpha to ``[-clip, clip]``; no gradient outside.
    scale : float
        Factor of the returned divergence.

    Returns
    -------
    divergence : array, shape ()
        ``scale * sum(KL)`` in nats; differentiable by `W` and `log_sigma2`.
    penalty : vdcore.kernels.Penalty
        Among others the unscaled sum (`value`), the summed dropout rates
        (`rate_sum`) and the number of weights kept (`kept`).

    Raises
    ------
    ValueError
        If the shapes differ or `kl` is unknown.
    TypeError
        If the dtypes or libraries differ.
    """
    penalty = sparse_vd_penalty(
        "sparse_vd_kl",
        W,
        log_sigma2,
        threshold=threshold,
        masked=masked,
        kl=kl,
        clip=clip,
        scale=scale,
    )
    gradients = [penalty.theta_gradient, penalty.log_sigma2_gradient]
    value = attach_gradients(penalty.value * scale, [W, log_sigma2], gradients)
    return value, penalty


def sparse_vd_penalty(
    operation: str,
    W: Array,
    log_sigma2: Array,
    *,
    threshold: float,
    masked: bool,
    kl: str,
    clip: float | None,
    scale: float,
) -> kernels.Penalty:
    """The penalty alone, off the tape; see :func:`sparse_vd_kl`."""
    if kl not in kernels.KL:
        known = ", ".join(repr(name) for name in kernels.KL)
        message = f"{operation}: `kl` must be one of {known}; got {kl!r}"
        raise ValueError(message)
    check_posterior(operation, W, log_sigma2)
    return kernels.sparse_vd_penalty(
        untraced(W), untraced(log_sigma2), threshold, masked, kl, clip, scale
    )


def check_posterior(operation: str, W: Array, log_sigma2: Array) -> None:
    """Raise unless the two arrays are of one library, shape and dtype."""
    array_namespace(W, log_sigma2)
    W, log_sigma2 = untraced(W), untraced(log_sigma2)
    if tuple(log_sigma2.shape) != tuple(W.shape):
        message = (
            f"{operation}: `log_sigma2` must have the shape of `W`, "
            f"{tuple(W.shape)}, got {tuple(log_sigma2.shape)}"
        )
        raise ValueError(message)
    check_dtypes(operation, W, log_sigma2=log_sigma2)


def check_noise(
    operation: str, x: Array, W: Array, noise: Array, expected: tuple[int, ...]
) -> None:
    """Raise unless the draws have the shape, library and dtype of the outputs."""
    if tuple(noise.shape) != expected:
        message = (
            f"{operation}: `noise` must have shape {expected}, got {tuple(noise.shape)}"
        )
        raise ValueError(message)
    array_namespace(x, noise)
    check_dtypes(operation, untraced(W), noise=noise)
