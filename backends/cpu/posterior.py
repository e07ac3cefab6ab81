"""Weights of a noisy layer, ready for its products, and their gradients after them."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import EPS, UNMASKED, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.vector_math import exp, log


def limit(threshold: float | None) -> numpy.float32:
    """The threshold on log alpha as compiled kernels take it."""
    return UNMASKED if threshold is None else f(threshold)


def posterior(
    theta: numpy.ndarray, log_sigma2: numpy.ndarray, threshold: float | None
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Means and variances, 0 for masked weights; shape (out_size, in_size)."""
    means, variances = empty_like(theta), empty_like(theta)
    _posterior(team(len(theta)), theta, log_sigma2, limit(threshold), means, variances)
    return means, variances


@jit()
def _posterior(board, theta, log_sigma2, threshold, means, variances):
    arguments = (theta, log_sigma2, threshold, means, variances)
    parallel_for(board, len(theta), _posterior_part, arguments)


@jit()
def _posterior_part(theta, log_sigma2, threshold, means, variances, row):
    kept(theta[row], log_sigma2[row], threshold, means[row], variances[row])


@jit()
def kept(theta, log_sigma2, threshold, means, variances):
    """Copy the weights of a unit, and their variances; 0 for those that are masked."""
    if threshold == UNMASKED:
        for j in range(theta.size):
            means[j] = theta[j]
            variances[j] = exp(log_sigma2[j])
        return
    for j in range(theta.size):
        la = log_sigma2[j] - log(theta[j] * theta[j] + EPS)
        masked = la > threshold
        means[j] = f(0) if masked else theta[j]
        variances[j] = f(0) if masked else exp(log_sigma2[j])


@jit()
def finish_gradients(theta, log_sigma2, threshold, by_theta, by_variance):
    """Turn the gradient by variances into that by their logarithms; 0 where masked."""
    if threshold == UNMASKED:
        for j in range(theta.size):
            by_variance[j] *= exp(log_sigma2[j])
        return
    for j in range(theta.size):
        la = log_sigma2[j] - log(theta[j] * theta[j] + EPS)
        masked = la > threshold
        by_theta[j] = f(0) if masked else by_theta[j]
        by_variance[j] = f(0) if masked else by_variance[j] * exp(log_sigma2[j])


def finish(
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    threshold: float | None,
    by_theta: numpy.ndarray,
    by_variance: numpy.ndarray,
) -> None:
    """:func:`finish_gradients` of all units, shape (out_size, in_size)."""
    limited = limit(threshold)
    _finish(team(len(theta)), theta, log_sigma2, limited, by_theta, by_variance)


@jit()
def _finish(board, theta, log_sigma2, threshold, by_theta, by_variance):
    arguments = (theta, log_sigma2, threshold, by_theta, by_variance)
    parallel_for(board, len(theta), _finish_row, arguments)


@jit()
def _finish_row(theta, log_sigma2, threshold, by_theta, by_variance, row):
    finish_gradients(
        theta[row], log_sigma2[row], threshold, by_theta[row], by_variance[row]
    )
