"""Weights drawn from their posterior, in the order in which the means lie in memory."""

from __future__ import annotations

import math

import cupy

from vdcore.backends.cuda.layout import flat, flat_in, shaped
from vdcore.backends.cuda.module import Module, blocks_for

_kernels = Module("sampling")


def sample_weights(
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    noise: cupy.ndarray,
    threshold: float | None,
) -> cupy.ndarray:
    """As ``kernels.sample_weights``."""
    means, order = flat(theta)
    others = (flat_in(x, order) for x in (log_sigma2, noise))
    W = cupy.empty_like(means)
    arguments = (means, *others, _limit(threshold), W.size, W)
    _kernels.launch("sample", _blocks(W), *arguments)
    return shaped(W, theta, order)


def sample_weights_backward(
    gW: cupy.ndarray,
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    noise: cupy.ndarray,
    threshold: float | None,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.sample_weights_backward``."""
    means, order = flat(theta)
    slopes, *others = (flat_in(x, order) for x in (gW, log_sigma2, noise))
    by_log_sigma2 = cupy.empty_like(means)
    by_theta = None if threshold is None else cupy.empty_like(means)
    results = (by_theta, by_log_sigma2)
    arguments = (slopes, means, *others, _limit(threshold), means.size, *results)
    _kernels.launch("sample_backward", _blocks(means), *arguments)
    gtheta = gW if by_theta is None else shaped(by_theta, theta, order)
    return gtheta, shaped(by_log_sigma2, theta, order)


def _limit(threshold: float | None) -> float:
    return math.inf if threshold is None else float(threshold)


def _blocks(x: cupy.ndarray) -> int:
    return blocks_for(-(-x.size // 4))
