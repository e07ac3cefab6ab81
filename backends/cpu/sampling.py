"""Weights drawn from their posterior: one pass over them, and one back."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF, PIECE, UNMASKED, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.posterior import limit
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.vector_math import exp, log


def sample_weights(
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    noise: numpy.ndarray,
    threshold: float | None,
) -> numpy.ndarray:
    """As ``kernels.sample_weights``."""
    arrays = list(map(numpy.ascontiguousarray, (theta, log_sigma2, noise)))
    W = empty_like(theta)
    flat = [x.reshape(-1) for x in (*arrays, W)]
    pieces = -(-W.size // PIECE)
    _sample(team(pieces), pieces, *flat[:3], limit(threshold), flat[3])
    return W


def sample_weights_backward(
    gW: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    noise: numpy.ndarray,
    threshold: float | None,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.sample_weights_backward``."""
    arrays = list(map(numpy.ascontiguousarray, (gW, theta, log_sigma2, noise)))
    masked = threshold is not None
    gtheta = empty_like(theta) if masked else arrays[0]
    glog_sigma2 = empty_like(theta)
    flat = [x.reshape(-1) for x in (*arrays, gtheta, glog_sigma2)]
    pieces = -(-gW.size // PIECE)
    if masked:
        _backward_masked(team(pieces), pieces, *flat[:4], f(threshold), *flat[4:])
    else:
        _backward(team(pieces), pieces, flat[0], flat[2], flat[3], flat[5])
    return gtheta, glog_sigma2


@jit()
def _sample(board, pieces, theta, log_sigma2, noise, threshold, W):
    arguments = (theta, log_sigma2, noise, threshold, W)
    parallel_for(board, pieces, _sample_piece, arguments)


@jit()
def _sample_piece(theta, log_sigma2, noise, threshold, W, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    theta, log_sigma2, noise, W = theta[part], log_sigma2[part], noise[part], W[part]
    for j in range(W.size):
        W[j] = theta[j] + exp(HALF * log_sigma2[j]) * noise[j]
    if threshold != UNMASKED:
        for j in range(W.size):
            la = log_sigma2[j] - log(theta[j] * theta[j] + EPS)
            W[j] = f(0) if la > threshold else W[j]


@jit()
def _backward(board, pieces, gW, log_sigma2, noise, glog_sigma2):
    parallel_for(board, pieces, _backward_piece, (gW, log_sigma2, noise, glog_sigma2))


@jit()
def _backward_piece(gW, log_sigma2, noise, glog_sigma2, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    gW, log_sigma2, noise = gW[part], log_sigma2[part], noise[part]
    target = glog_sigma2[part]
    for j in range(gW.size):
        target[j] = gW[j] * noise[j] * (HALF * exp(HALF * log_sigma2[j]))


@jit()
def _backward_masked(
    board, pieces, gW, theta, log_sigma2, noise, threshold, gtheta, glog_sigma2
):  # fmt: skip
    arguments = (gW, theta, log_sigma2, noise, threshold, gtheta, glog_sigma2)
    parallel_for(board, pieces, _backward_masked_piece, arguments)


@jit()
def _backward_masked_piece(
    gW, theta, log_sigma2, noise, threshold, gtheta, glog_sigma2, piece
):  # fmt: skip
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    gW, theta, log_sigma2, noise = gW[part], theta[part], log_sigma2[part], noise[part]
    by_theta, by_log_sigma2 = gtheta[part], glog_sigma2[part]
    for j in range(gW.size):
        la = log_sigma2[j] - log(theta[j] * theta[j] + EPS)
        by_theta[j] = f(0) if la > threshold else gW[j]
    for j in range(gW.size):
        std = exp(HALF * log_sigma2[j])
        by_log_sigma2[j] = by_theta[j] * noise[j] * (HALF * std)
