"""Rows of a table by their numbers, and the sums of their gradients."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.team import parallel_for, team

STRIPE = 64  # rows of the table that are worth the handing out of a part


def embed_backward(
    gy: numpy.ndarray, ids: numpy.ndarray, W: numpy.ndarray
) -> numpy.ndarray:
    """As ``kernels.embed_backward``; numbers of no row are left out."""
    rows, size = W.shape
    gW = empty(W.shape)
    flat = ids.reshape(-1).astype(numpy.int64)
    # The places of each row, one after the other in the order of the batch.
    places = numpy.argsort(flat, kind="stable")
    stripes = -(-rows // STRIPE)
    bounds = numpy.arange(stripes + 1) * STRIPE
    bounds[-1] = rows
    starts = numpy.searchsorted(flat[places], bounds)
    gy = numpy.ascontiguousarray(gy).reshape(-1, size)
    _add_rows(team(stripes), gy, flat, places, starts, gW)
    return gW


@jit()
def _add_rows(board, gy, ids, places, starts, gW):
    arguments = (gy, ids, places, starts, gW)
    parallel_for(board, len(starts) - 1, _add_stripe, arguments)


@jit()
def _add_stripe(gy, ids, places, starts, gW, stripe):
    for row in range(stripe * STRIPE, min((stripe + 1) * STRIPE, len(gW))):
        target = gW[row]
        for j in range(target.size):
            target[j] = f(0)
    for k in range(starts[stripe], starts[stripe + 1]):
        source, target = gy[places[k]], gW[ids[places[k]]]
        for j in range(target.size):
            target[j] += source[j]
