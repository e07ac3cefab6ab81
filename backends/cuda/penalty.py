"""The KL divergence of a layer's weights, with its gradients and statistics."""

from __future__ import annotations

import math

import cupy

from vdcore import kernels
from vdcore.backends.cuda.arguments import number
from vdcore.backends.cuda.module import Module, blocks_for

BLOCKS = 1024  # at most: those sum what others would, whose sums would be summed again

_kernels = Module("penalty")


def sparse_vd_penalty(
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    threshold: float,
    masked: bool,
    kl: str,
    clip: float | None,
    scale: float | cupy.ndarray,
) -> kernels.Penalty:
    """As ``kernels.sparse_vd_penalty``, of contiguous arrays."""
    by_theta, by_log_sigma2 = cupy.empty_like(theta), cupy.empty_like(theta)
    blocks = min(blocks_for(-(-theta.size // 4)), BLOCKS)
    sums = cupy.empty((3, blocks), theta.dtype)
    mask_above = float(threshold) if masked else math.inf
    limit = math.inf if clip is None else float(clip)
    _kernels.launch(
        f"{kl}_penalty", blocks, theta, log_sigma2, theta.size, float(threshold),
        mask_above, limit, number(scale), by_theta, by_log_sigma2, sums,
    )  # fmt: skip
    totals = cupy.empty(3, theta.dtype)
    _kernels.launch("total", 3, sums, blocks, totals)
    value, rate_sum, kept = totals
    return kernels.Penalty(value, by_theta, by_log_sigma2, rate_sum, kept)
