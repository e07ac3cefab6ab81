"""Rectifier and dropout of float32 arrays that lie in memory in any order of axes."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.normal import philox
from vdcore.backends.cpu.team import parallel_for, team

PIECE = 2**14  # numbers that are worth the handing out of a part
BLOCK = 4096  # draws whose random bits stay in the cache


def relu_forward(x: numpy.ndarray) -> numpy.ndarray:
    """As ``kernels.relu_forward``."""
    axes = _memory_order(x)
    x = numpy.ascontiguousarray(x.transpose(axes))
    y = empty_like(x)
    pieces = -(-x.size // PIECE)
    _forward(team(pieces), pieces, x.reshape(-1), y.reshape(-1))
    return y.transpose(numpy.argsort(axes))


def relu_backward(gy: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
    """As ``kernels.relu_backward``."""
    axes = _memory_order(y)
    gy, y = (numpy.ascontiguousarray(a.transpose(axes)) for a in (gy, y))
    gx = empty_like(y)
    pieces = -(-y.size // PIECE)
    _backward(team(pieces), pieces, gy.reshape(-1), y.reshape(-1), gx.reshape(-1))
    return gx.transpose(numpy.argsort(axes))


def dropout_mask(
    like: numpy.ndarray, rng: numpy.random.Generator, ratio: float
) -> numpy.ndarray:
    """As ``kernels.dropout_mask``, by a key of 128 bits that the generator yields."""
    axes = _memory_order(like)
    mask = empty([like.shape[axis] for axis in axes], like.dtype)
    key = rng.bit_generator.random_raw(4) & 0xFFFFFFFF
    blocks = -(-mask.size // BLOCK)
    limit = numpy.uint32(ratio * 2**32)
    factor = f(1 / (1 - ratio))
    _draw(team(blocks), blocks, key, limit, factor, mask.reshape(-1))
    return mask.transpose(numpy.argsort(axes))


def _memory_order(x: numpy.ndarray) -> list[int]:
    """Axes from that with the largest steps in memory to that with the smallest."""
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


@jit()
def _forward(board, pieces, x, y):
    parallel_for(board, pieces, _forward_piece, (x, y))


@jit()
def _forward_piece(x, y, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    x, y = x[part], y[part]
    for j in range(x.size):
        y[j] = f(0) if x[j] <= f(0) else x[j]  # NaN stays


@jit()
def _backward(board, pieces, gy, y, gx):
    parallel_for(board, pieces, _backward_piece, (gy, y, gx))


@jit()
def _backward_piece(gy, y, gx, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    gy, y, gx = gy[part], y[part], gx[part]
    for j in range(y.size):
        gx[j] = gy[j] if y[j] > f(0) else f(0)


@jit()
def _draw(board, blocks, key, limit, factor, mask):
    parallel_for(board, blocks, _draw_block, (key, limit, factor, mask))


@jit()
def _draw_block(key, limit, factor, mask, block):
    quarter = BLOCK // 4
    words = numpy.empty((4, quarter), numpy.uint32)
    philox(0, block, key, words[0], words[1], words[2], words[3])
    drawn = words.reshape(-1)
    part = mask[block * BLOCK : (block + 1) * BLOCK]
    for j in range(part.size):
        part[j] = f(0) if drawn[j] < limit else factor
