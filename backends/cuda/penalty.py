"""The KL divergence of a layer's weights, with its gradients and statistics."""

from __future__ import annotations

import math

import cupy
import numpy

from vdcore import kernels
from vdcore.backends.cuda.arguments import NUMBER, number
from vdcore.backends.cuda.module import Module, blocks_for

BLOCKS = 1024  # at most: those sum what others would, whose sums would be summed again

LAYERS = 64  # of a network: as many as fit into the parameters of a kernel
WARP = 32

_SUMS = ("value", "rate_sum", "kept")
_LAYERS = numpy.dtype(
    [(name, numpy.uintp, LAYERS) for name in _SUMS]
    + [("factor", NUMBER, LAYERS), ("scale", numpy.float32, LAYERS)],
    align=True,
)
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


def total_penalty(
    values: list[cupy.ndarray],
    rate_sums: list[cupy.ndarray],
    kept: list[cupy.ndarray],
    scales: list[float],
    factors: list[float | cupy.ndarray],
    size: int,
) -> kernels.TotalPenalty:
    """As ``kernels.total_penalty``, of at most LAYERS layers."""
    count = len(values)
    layers = numpy.zeros(1, _LAYERS)
    (fields,) = layers
    for name, column in zip(_SUMS, (values, rate_sums, kept), strict=True):
        fields[name][: len(column)] = [array.data.ptr for array in column]
    fields["scale"][:count] = scales
    fields["factor"][:count] = [number(factor)[0] for factor in factors]
    totals = cupy.empty(5, cupy.float32)
    arguments = layers, count, len(kept), float(size), totals
    _kernels.launch("network", 1, *arguments, threads=WARP)
    return kernels.TotalPenalty(*totals)
