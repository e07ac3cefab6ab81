"""The linear layer with plain weights."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.matmul import matmul
from vdcore.backends.cpu.team import parallel_for, team

STRIPE = 512  # columns that are summed at a time


def linear_forward(
    x: numpy.ndarray, W: numpy.ndarray, b: numpy.ndarray | None
) -> numpy.ndarray:
    """As ``kernels.linear_forward``."""
    return matmul(x, W.T, b)


def linear_backward(
    gy: numpy.ndarray, x: numpy.ndarray, W: numpy.ndarray, need_x: bool
) -> tuple[numpy.ndarray | None, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.linear_backward``."""
    gx = matmul(gy, W) if need_x else None
    return gx, matmul(gy.T, x), sum_of_rows(gy)


def sum_of_rows(x: numpy.ndarray) -> numpy.ndarray:
    """As ``x.sum(axis=0)`` of a matrix."""
    total = numpy.empty(x.shape[1], numpy.float32)
    stripes = -(-x.shape[1] // STRIPE)
    parts = stripes if x.size > STRIPE * STRIPE else 1
    _sum(team(parts), stripes, numpy.ascontiguousarray(x), total)
    return total


@jit()
def _sum(board, stripes, x, total):
    parallel_for(board, stripes, _sum_stripe, (x, total))


@jit()
def _sum_stripe(x, total, stripe):
    left, right = stripe * STRIPE, min((stripe + 1) * STRIPE, total.size)
    sums = numpy.zeros(right - left, numpy.float32)
    for row in range(len(x)):
        line = x[row, left:right]
        for j in range(sums.size):
            sums[j] += line[j]
    for j in range(sums.size):
        total[left + j] = sums[j]
