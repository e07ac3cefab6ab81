"""Numbers that the host has anew in each step, taken to the device by one copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cupy
import cupyx
import numpy

ALIGNMENT = 256  # bytes, that of CUDA's own allocations
BLOCK = 1 << 16  # bytes that are copied at once
DEPTH = 4  # steps that the host may be ahead of the device


class HostNumbers:
    """Places on the device for numbers of the host.

    A copy goes on while the host computes the next step's numbers, so these go into
    other memory, which is used again only after its copy is done.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._blocks: list[_Block] = []
        self._turn = 0
        self._copied = [cupy.cuda.Event(disable_timing=True) for _ in range(DEPTH)]

    def add(
        self, compute: Callable[[], Any], dtype: Any
    ) -> tuple[Any, Callable[[], None]]:
        """Make a place for the number, or array of them, that `compute` returns.

        Returns
        -------
        array
            The place on the device.
        callable
            Computes the number and puts it into the memory of the present turn.
        """
        first = compute()
        if isinstance(first, float):
            first = numpy.asarray(first, dtype)
        first = numpy.asarray(first)
        block, place = self._place(first.nbytes)
        on_host = [
            part.view(first.dtype).reshape(first.shape) for part in block.host(place)
        ]
        on_host[self._turn][...] = first

        def take() -> None:
            on_host[self._turn][...] = compute()

        on_device = block.device[place].view(first.dtype).reshape(first.shape)
        return on_device, take

    def upload(self) -> None:
        """Copy the present turn's numbers; then it is the next one's turn."""
        for block in self._blocks:
            block.device.set(block.turns[self._turn], stream=self._stream)
        self._copied[self._turn].record(self._stream)
        self._turn = (self._turn + 1) % DEPTH
        if not self._copied[self._turn].done:
            self._copied[self._turn].synchronize()

    def _place(self, size: int) -> tuple[_Block, slice]:
        if not self._blocks or self._blocks[-1].left < size:
            self._blocks.append(_Block(max(BLOCK, size)))
        return self._blocks[-1], self._blocks[-1].take(size)


class _Block:
    """Memory of the device, and as much of the host for each turn."""

    def __init__(self, size: int) -> None:
        self.device = cupy.empty(size, cupy.uint8)
        self.turns = [cupyx.empty_pinned(size, numpy.uint8) for _ in range(DEPTH)]
        self._used = 0

    @property
    def left(self) -> int:
        return self.device.size - self._used

    def take(self, size: int) -> slice:
        place = slice(self._used, self._used + size)
        self._used += math.ceil(size / ALIGNMENT) * ALIGNMENT
        return place

    def host(self, place: slice) -> list[numpy.ndarray]:
        return [turn[place] for turn in self.turns]
