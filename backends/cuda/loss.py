"""Softmax cross-entropy and accuracy."""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.module import THREADS, Module

WARP = 32
LARGE_BLOCK = 1024  # threads, if one block does it all
ROWS = 256  # that one block does; more are worth a second launch
BLOCKS = 1024

_kernels = Module("loss")


def softmax_cross_entropy(
    logits: cupy.ndarray, t: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.softmax_cross_entropy``, of contiguous arrays."""
    batch, classes = logits.shape
    gradient, loss = cupy.empty_like(logits), cupy.empty((), logits.dtype)
    blocks, threads = 1, LARGE_BLOCK
    if batch > ROWS:
        blocks, threads = min(-(-batch * WARP // THREADS), BLOCKS), THREADS
    sums = cupy.empty(blocks, cupy.float64)
    arguments = (logits, t, batch, classes, gradient, sums, loss)
    _kernels.launch(f"cross_entropy_{t.dtype}", blocks, *arguments, threads=threads)
    if blocks > 1:
        _kernels.launch("mean_loss", 1, sums, blocks, batch, loss)
    return loss, gradient


def accuracy(scores: cupy.ndarray, t: cupy.ndarray) -> cupy.ndarray:
    """As ``kernels.accuracy``, of contiguous arrays; by one block."""
    batch, classes = scores.shape
    share = cupy.empty((), scores.dtype)
    arguments = (scores, t, batch, classes, share)
    _kernels.launch(f"accuracy_{t.dtype}", 1, *arguments, threads=LARGE_BLOCK)
    return share
