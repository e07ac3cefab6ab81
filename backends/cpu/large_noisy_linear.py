"""The noisy linear layer where its matrices are large: whole products, one at a time.

Variances of all weights are written out once, which costs little beside products of so
many numbers each. Activations lie example by example, as a loss reads them.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.elementwise import EPS, HALF, PIECE
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.linear import sum_of_rows
from vdcore.backends.cpu.matmul import matmul
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.posterior import finish, posterior
from vdcore.backends.cpu.team import parallel_for, team

LARGE = 2**28  # multiplications of one product from which on this is faster


def forward(
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    b: numpy.ndarray | None,
    noise: numpy.ndarray,
    threshold: float | None,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_linear_forward``."""
    means, variances = posterior(theta, log_sigma2, threshold)
    y, residual = matmul(x, means.T, b), matmul(numpy.square(x), variances.T)
    noise = numpy.ascontiguousarray(noise)
    pieces = -(-y.size // PIECE)
    flat = (array.reshape(-1) for array in (noise, y, residual))
    _add_noise(team(pieces), pieces, *flat)
    return y, residual


def backward(
    gy: numpy.ndarray,
    x: numpy.ndarray,
    theta: numpy.ndarray,
    log_sigma2: numpy.ndarray,
    residual: numpy.ndarray,
    threshold: float | None,
    need_x: bool,
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.vd_linear_backward``."""
    gy, residual = map(numpy.ascontiguousarray, (gy, residual))
    gvariance = empty_like(gy)
    pieces = -(-gy.size // PIECE)
    flat = (array.reshape(-1) for array in (gy, residual, gvariance))
    _multiply(team(pieces), pieces, *flat)
    gtheta, glog_sigma2 = matmul(gy.T, x), matmul(gvariance.T, numpy.square(x))
    finish(theta, log_sigma2, threshold, gtheta, glog_sigma2)
    gx = None
    if need_x:
        means, variances = posterior(theta, log_sigma2, threshold)
        gx = matmul(gvariance, variances)
        gx *= x
        gx *= 2
        gx += matmul(gy, means)
    return gx, gtheta, glog_sigma2, sum_of_rows(gy)


@jit()
def _add_noise(board, pieces, noise, y, variance):
    parallel_for(board, pieces, _add_noise_piece, (noise, y, variance))


@jit()
def _add_noise_piece(noise, y, variance, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    noise, y, variance = noise[part], y[part], variance[part]
    for j in range(y.size):
        std = math.sqrt(variance[j] + EPS)
        y[j] += std * noise[j]
        variance[j] = HALF * noise[j] / std


@jit()
def _multiply(board, pieces, first, second, product):
    parallel_for(board, pieces, _multiply_piece, (first, second, product))


@jit()
def _multiply_piece(first, second, product, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    first, second, product = first[part], second[part], product[part]
    for j in range(product.size):
        product[j] = first[j] * second[j]
