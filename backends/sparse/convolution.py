"""Convolutional networks of few weights, compiled: see :func:`compiled_images`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy

from vdcore.backends.cpu.team import team
from vdcore.backends.sparse.image_kernels import run
from vdcore.backends.sparse.image_layout import (
    WEIGH,
    Operation,
    layouts,
    operations,
    vectors,
)
from vdcore.backends.sparse.image_program import Program, build, tiling
from vdcore.backends.sparse.layer import Shape, Stage
from vdcore.backends.sparse.tiles import WIDTH

# How many examples may go through the network together; and in units of the time for
# a weight and a vector, how long a vector takes, which may lie across two cache lines,
# and a number that is read or written. Measured on one AVX-512 core.
VECTOR_TIMES = {1: 1.15, 4: 1.15, 8: 1.1, WIDTH: 1.0}
NUMBER_TIMES = {1: 0.3, 4: 1.5, 8: 0.3, WIDTH: 0.4}
LARGEST = 2**22  # numbers in a stretch of memory, unless it is of one example
CACHE_LINE = 16  # numbers


class _Plan(NamedTuple):
    """A program for blocks of so many examples, and the memory that it needs."""

    lanes: int
    program: Program
    size: int
    parts: int  # of the step that has most
    idle: list[numpy.ndarray]  # what calls have given back


def compiled_images(
    layers: Sequence[Stage], in_shape: Shape, threads: int
) -> Callable[[numpy.ndarray], numpy.ndarray]:
    """The function that computes consecutive layers, at least one of them with weights.

    Parameters
    ----------
    layers : sequence of Stage
        As :func:`~vdcore.backends.sparse.shrink.shrink` returns them.
    in_shape : tuple of int
        Shape of one example.
    threads : int
        How many share the examples of a batch, or the work on one.

    Returns
    -------
    callable
        From x, float32, C-contiguous, shape (batch, in_size), to (batch, out_size).
        Threads may call it at once.
    """
    found = operations(layers, in_shape)
    plans: dict[int, _Plan] = {}
    choices: dict[int, _Plan] = {}
    channels, height, width = found[-1].shape
    out_size = channels * height * width

    def plan(batch: int) -> _Plan:
        lanes = block_size(found, batch, threads)
        if lanes not in plans:
            program, size = build(found, lanes, threads)
            parts = int((program.steps["parts"] * program.steps["shared"]).max())
            plans[lanes] = _Plan(lanes, program, size, parts, [])
        return plans[lanes]

    def predict(x: numpy.ndarray) -> numpy.ndarray:
        batch = len(x)
        chosen = choices.get(batch)
        if chosen is None:
            chosen = choices[batch] = plan(batch)
        lanes, program, size, parts, idle = chosen
        blocks = -(-batch // lanes)
        # Threads take blocks, or share one after the other.
        takers = threads if blocks >= threads else 1
        try:
            memory = idle.pop()
        except IndexError:
            memory = _aligned((threads, 2, size))
        out = numpy.empty(batch * out_size, numpy.float32)
        numbers = x.reshape(-1)
        numbers.flags.writeable = False  # whatever `x` is: code for one kind of array
        board = team(parts if takers == 1 else takers, threads)
        taken = numpy.zeros(1, numpy.int64)
        run(board, taken, program, memory[:takers], lanes, batch, numbers, out)
        idle.append(memory)
        return out.reshape(batch, out_size)

    return predict


def _aligned(shape: tuple[int, ...]) -> numpy.ndarray:
    """Memory whose first number begins a cache line."""
    size = math.prod(shape)
    memory = numpy.empty(size + CACHE_LINE, numpy.float32)
    start = -(memory.ctypes.data // 4) % CACHE_LINE
    return memory[start : start + size].reshape(shape)


def block_size(found: Sequence[Operation], batch: int, threads: int) -> int:
    """How many examples to take together when there are `batch` of them."""
    images = layouts(found)
    numbers = math.prod(found[0].shape) + math.prod(found[-1].shape)
    fitting = [
        lanes
        for lanes in VECTOR_TIMES
        if max(each.shape[0] * each.plane(lanes) for each in images) <= LARGEST
    ]

    def time(lanes: int) -> float:
        total = numbers * lanes * NUMBER_TIMES[lanes]
        for number, operation in enumerate(found):
            if operation.kind == WEIGH:
                _, height, width = operation.shape
                pitch = images[number - 1].pitch if operation.window else width
                count = vectors((height - 1) * pitch + width, lanes)
                weights = operation.layer.W.nnz * VECTOR_TIMES[lanes]
                total += weights * tiling(count)[1]
        blocks = -(-batch // lanes)
        rounds = -(-blocks // threads) if blocks >= threads else blocks / threads
        return total * rounds

    return min(fitting, key=time, default=min(VECTOR_TIMES))
