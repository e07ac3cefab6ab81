"""Random numbers under a key of 128 bits that a generator of the host yields.

The same key gives what the CPU draws (:mod:`vdcore.backends.cpu.normal`), in the order
in which the elements lie in memory, up to the rounding of logarithm, sine and cosine.
"""

from __future__ import annotations

from typing import Any

import cupy
import numpy

from vdcore.backends.cuda.arguments import key
from vdcore.backends.cuda.layout import channels_first, flat, shaped
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.replay import live

PIECE = 4096  # numbers that lie together; a thread draws four of them

_kernels = Module("noise")


def standard_normal(
    like: cupy.ndarray, rng: numpy.random.Generator, shape: tuple[int, ...]
) -> cupy.ndarray:
    """As ``kernels.standard_normal``, as noisy layers read it: with channels last."""
    drawn = cupy.empty((*shape[:1], *shape[2:], *shape[1:2]), like.dtype)
    words = _words(rng, like)  # on the device, and so to be kept until the launch
    arguments = (key(words), drawn.size, drawn)
    _kernels.launch("standard_normal", _blocks(drawn), *arguments)
    return drawn if len(shape) < 3 else channels_first(drawn)


def dropout_mask(
    like: cupy.ndarray, rng: numpy.random.Generator, ratio: float
) -> cupy.ndarray:
    """As ``kernels.dropout_mask``, in the order in which `like` lies in memory."""
    elements, order = flat(like)
    mask = cupy.empty_like(elements)
    limit, factor = int(ratio * 2**32), 1 / (1 - ratio)
    words = _words(rng, like)
    arguments = (key(words), limit, factor, mask.size, mask)
    _kernels.launch("dropout_mask", _blocks(mask), *arguments)
    return shaped(mask, like, order)


def _words(rng: numpy.random.Generator, like: cupy.ndarray) -> Any:
    """The key: of this step, and in a recorded one of each repetition."""
    return live(lambda: _drawn_words(rng), like)


def _drawn_words(rng: numpy.random.Generator) -> numpy.ndarray:
    # The lower halves, for some generators yield 32 bits at a time.
    return (rng.bit_generator.random_raw(4) & 0xFFFFFFFF).astype(numpy.uint32)


def _blocks(x: cupy.ndarray) -> int:
    return blocks_for(-(-x.size // PIECE) * (PIECE // 4))
