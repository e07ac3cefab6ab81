"""One draw of weights from their posterior."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, check_array, untraced
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.variational import check_noise, check_posterior


@primitive
def _sample_weights(W, log_sigma2, noise, threshold):
    return kernels.sample_weights(W, log_sigma2, noise, threshold)


def _sample_weights_vjp(argnums, sampled, args, kwargs):
    W, log_sigma2, noise, threshold = args

    def vjp(gW: Array):
        gradients = kernels.sample_weights_backward(gW, W, log_sigma2, noise, threshold)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_sample_weights, _sample_weights_vjp)


def sample_weights(
    W: Array, log_sigma2: Array, noise: Array, threshold: float | None = None
) -> Array:
    """Gaussian weights, reparameterised: ``W + exp(log_sigma2 / 2) noise``.

    One draw that a whole batch shares costs a recurrent network the matrix products of
    plain weights (Kingma and Welling 2014 for the reparameterisation; Lobacheva,
    Chirkova and Vetrov 2017 for the use in recurrent networks). Where each output may
    have noise of its own, :func:`vd_linear` has the smaller variance.

    Parameters
    ----------
    W, log_sigma2 : array, same shape
        Posterior means and log variances.
    noise : array, same shape
        Standard normal draws.
    threshold : float, optional
        Weights with log alpha above it are masked: 0, and no gradient. Default no
        masks.

    Returns
    -------
    array, shape and dtype of `W`

    Raises
    ------
    ValueError
        If the shapes differ.
    TypeError
        If one of them is no array, or the dtypes or libraries differ.
    """
    operation = "sample_weights"
    for argument, array in {"W": W, "log_sigma2": log_sigma2, "noise": noise}.items():
        check_array(operation, argument, array)
    check_posterior(operation, W, log_sigma2)
    check_noise(operation, W, W, noise, tuple(untraced(W).shape))
    return _sample_weights(W, log_sigma2, noise, threshold)
