"""Kullback-Leibler terms of a weight's posterior against the log-uniform prior.

Every function is elementwise, in nats, with the constant chosen so that the
divergence goes to 0 as alpha goes to infinity; reduce with a sum.
"""

from __future__ import annotations

from vdcore.arrays import Array
from vdcore.variational.checks import floating_namespace
from vdcore.variational.special import sigmoid, softplus

# Molchanov et al. 2017, equation 14.
K1, K2, K3 = 0.63576, 1.87320, 1.48695

# Least-squares fit (weights towards the largest error) of the true divergence:
# KL - softplus(-la)/2 = s^2 P(2s - 1) with s = 1 / (1 + EXACT_SCALE e^la). The map
# to s makes both tails of the divergence analytic or nearly so; value and derivative
# are within 2.4e-8 of the integral for every la.
EXACT_SCALE = 8.0
LOG_EXACT_SCALE = 2.0794415416798357
EXACT_COEFFICIENTS = (
    1.97504842,
    -2.684206295,
    2.123242326,
    -1.084168374,
    0.6430988818,
    -0.6796274316,
    0.4349947582,
    -0.2008531768,
    0.2538107028,
    -0.1613209331,
    0.1518343262,
    -0.1459654725,
    -0.232877292,
    0.03483485022,
    0.5466872189,
    -0.1270822687,
    -0.4282562153,
    0.1120998071,
    0.1841377581,
    -0.07918637546,
    -0.001063768301,
)


def kl_sparse_vd(log_alpha: Array) -> Array:
    """Approximate KL divergence from the log-uniform prior, in nats per weight.

    Parameters
    ----------
    log_alpha : array
        ``log sigma2 - log theta^2``, any shape.

    Returns
    -------
    array
        Same shape and dtype; at most 9.4e-3 nats from :func:`kl_sparse_vd_exact`.

    Raises
    ------
    TypeError
        If the dtype is not real floating.

    Notes
    -----
    Molchanov et al. 2017, equation 14, as a sum of two terms that vanish for
    large alpha, so that nothing cancels or overflows::

        KL = softplus(-la) / 2 + k1 sigmoid(-(k2 + k3 la))

    Examples
    --------
    >>> import numpy
    >>> kl_sparse_vd(numpy.asarray([-8.0, 0.0, 8.0])).round(6)
    array([4.635899e+00, 4.312390e-01, 1.680000e-04])
    """
    floating_namespace("kl_sparse_vd", log_alpha=log_alpha)
    return softplus(-log_alpha) * 0.5 + sigmoid(log_alpha * -K3 - K2) * K1


def kl_sparse_vd_grad(log_alpha: Array) -> Array:
    """Derivative of :func:`kl_sparse_vd` with respect to `log_alpha`; nats, negative.

    ``-sigmoid(-la) / 2 - k1 k3 s (1 - s)`` with ``s = sigmoid(k2 + k3 la)``.

    Raises
    ------
    TypeError
        If the dtype is not real floating.
    """
    floating_namespace("kl_sparse_vd_grad", log_alpha=log_alpha)
    tail = sigmoid(log_alpha * -K3 - K2)
    return sigmoid(-log_alpha) * -0.5 - tail * (1 - tail) * (K1 * K3)


def kl_sparse_vd_exact(log_alpha: Array) -> Array:
    """KL divergence from the log-uniform prior, in nats per weight.

    Parameters
    ----------
    log_alpha : array
        ``log sigma2 - log theta^2``, any shape.

    Returns
    -------
    array
        Same shape and dtype; in float64 within 3e-8 nats of the integral.

    Raises
    ------
    TypeError
        If the dtype is not real floating.

    Notes
    -----
    With ``h = 1 / (2 alpha)`` and Dawson's integral D, the divergence is
    ``2 * integral of D from 0 to sqrt(h)``, equivalently ``h 2F2(1, 1; 3/2, 2; -h)``.
    Evaluated without special functions: ``softplus(-la) / 2 + s^2 P(2s - 1)``, where
    ``s = sigmoid(-la - log 8)`` and P is a polynomial fitted to the integral.

    Examples
    --------
    >>> import numpy
    >>> kl_sparse_vd_exact(numpy.asarray([-8.0, 0.0, 3.0])).round(6)
    array([4.635014, 0.426686, 0.024688])
    """
    floating_namespace("kl_sparse_vd_exact", log_alpha=log_alpha)
    s = sigmoid(-log_alpha - LOG_EXACT_SCALE)
    value, _ = _exact_polynomial(s * 2 - 1)
    return softplus(-log_alpha) * 0.5 + s * s * value


def kl_sparse_vd_exact_grad(log_alpha: Array) -> Array:
    """Derivative of :func:`kl_sparse_vd_exact`: ``-sqrt(h) D(sqrt(h))``, in nats.

    Evaluated as the derivative of the same fit; within 3e-8 of Dawson's integral.

    Raises
    ------
    TypeError
        If the dtype is not real floating.
    """
    floating_namespace("kl_sparse_vd_exact_grad", log_alpha=log_alpha)
    s = sigmoid(-log_alpha - LOG_EXACT_SCALE)
    value, slope = _exact_polynomial(s * 2 - 1)
    return sigmoid(-log_alpha) * -0.5 - (value + slope * s) * (s * s * (1 - s) * 2)


def _exact_polynomial(u: Array) -> tuple[Array, Array]:
    """P(u) and P'(u) by Horner's rule."""
    value = u * EXACT_COEFFICIENTS[-1] + EXACT_COEFFICIENTS[-2]
    slope = u * 0 + EXACT_COEFFICIENTS[-1]
    for coefficient in EXACT_COEFFICIENTS[-3::-1]:
        slope = slope * u + value
        value = value * u + coefficient
    return value, slope
