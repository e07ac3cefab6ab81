"""Weights of a noisy layer, ready for its products, and their gradients after them."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import EPS, PIECE, UNMASKED, f
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
    """Means and variances, 0 for masked weights; without masks `theta` is the means."""
    variances = empty_like(theta)
    flat = [x.reshape(-1) for x in (theta, log_sigma2, variances)]
    pieces = -(-theta.size // PIECE)
    if threshold is None:
        _exponentials(team(pieces), pieces, *flat[1:])
        return theta, variances
    means = empty_like(theta)
    _posterior(team(pieces), pieces, *flat, f(threshold), means.reshape(-1))
    return means, variances


@jit()
def _exponentials(board, pieces, log_sigma2, variances):
    parallel_for(board, pieces, _exponentials_piece, (log_sigma2, variances))


@jit()
def _exponentials_piece(log_sigma2, variances, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    log_sigma2, variances = log_sigma2[part], variances[part]
    for j in range(variances.size):
        variances[j] = exp(log_sigma2[j])


@jit()
def _posterior(board, pieces, theta, log_sigma2, variances, threshold, means):
    arguments = (theta, log_sigma2, variances, threshold, means)
    parallel_for(board, pieces, _posterior_piece, arguments)


@jit()
def _posterior_piece(theta, log_sigma2, variances, threshold, means, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    kept(theta[part], log_sigma2[part], threshold, means[part], variances[part])


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
    weights = [x.reshape(-1) for x in (theta, log_sigma2)]
    gradients = [x.reshape(-1) for x in (by_theta, by_variance)]
    pieces = -(-theta.size // PIECE)
    _finish(team(pieces), pieces, *weights, limit(threshold), *gradients)


@jit()
def _finish(board, pieces, theta, log_sigma2, threshold, by_theta, by_variance):
    arguments = (theta, log_sigma2, threshold, by_theta, by_variance)
    parallel_for(board, pieces, _finish_piece, arguments)


@jit()
def _finish_piece(theta, log_sigma2, threshold, by_theta, by_variance, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    finish_gradients(
        theta[part], log_sigma2[part], threshold, by_theta[part], by_variance[part]
    )
