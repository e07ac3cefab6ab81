"""Rows of a table by their numbers; the sums of their gradients, always the same."""

from __future__ import annotations

import cupy
import numpy

from vdcore.backends.cuda.arguments import divisor
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.backends.cuda.tiles import WARP

PIECE = 1024  # places that a block sorts, at most

_kernels = Module("embedding")


def embed_forward(W: cupy.ndarray, ids: cupy.ndarray) -> cupy.ndarray:
    """As ``kernels.embed_forward``."""
    W = cupy.ascontiguousarray(W)
    rows, columns = W.shape
    y = cupy.empty((*ids.shape, columns), W.dtype)
    packs = -(-columns // 4)
    threads = ids.size * packs
    arguments = (rows, columns, divisor(packs).reshape(1), threads, y)
    _kernels.launch("take", blocks_for(threads), W, *_short_or_long(ids), *arguments)
    return y


def embed_backward(
    gy: cupy.ndarray, ids: cupy.ndarray, W: cupy.ndarray
) -> cupy.ndarray:
    """As ``kernels.embed_backward``."""
    gy, gW = cupy.ascontiguousarray(gy), cupy.zeros(W.shape, W.dtype)
    rows, columns = W.shape
    keys, runs = _sorted_keys(ids, rows), -(-ids.size // WARP)
    carries = cupy.empty((runs, columns), gy.dtype)
    blocks = blocks_for(runs * -(-columns // WARP) * WARP)
    size = (rows, columns)
    _kernels.launch("sum_runs", blocks, keys, ids.size, gy, *size, gW, carries)
    if runs > 1:
        _kernels.launch("add_carries", blocks, keys, ids.size, *size, carries, gW)
    return gW


def _sorted_keys(ids: cupy.ndarray, rows: int) -> cupy.ndarray:
    """Row and place of each number in order; CuPy's own sorting waits for the GPU."""
    count = ids.size
    length = min(PIECE, 1 << (count - 1).bit_length())
    pieces = -(-count // length)
    keys = cupy.empty(count, cupy.uint64)
    arguments = (rows, count, length, keys)
    _kernels.launch("sort_pieces", pieces, *_short_or_long(ids), *arguments)
    if pieces == 1:
        return keys
    merged = cupy.empty_like(keys)
    _kernels.launch("merge_pieces", blocks_for(count), keys, count, length, merged)
    return merged


def _short_or_long(ids: cupy.ndarray) -> tuple[cupy.ndarray | None, ...]:
    """For kernels: numbers of 32 or of 64 bits, the other one None."""
    if ids.dtype == numpy.int32:
        return cupy.ascontiguousarray(ids), None
    return None, cupy.ascontiguousarray(ids.astype(numpy.int64, copy=False))
