"""Work that was captured from a stream, to be launched again and again.

On a device a graph holds addresses, not arrays. What it reads or writes must therefore
stay its own: a launch checks that no memory of the graph was freed, given to another
array, or returned to the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tests.emulated_cupy.errors import UndefinedBehaviour


class Capture:
    """Work as it is recorded.

    Attributes
    ----------
    invalid : bool
        Whether something was asked for that cannot be captured.
    joined, unjoined : list of Stream
        Other streams whose work is recorded too, and those of them whose work the
        first stream has not waited for yet.
    """

    def __init__(self) -> None:
        self.invalid = False
        self.joined: list[Any] = []
        self.unjoined: list[Any] = []
        self._work: list[Callable[[], object]] = []
        self._blocks: dict[int, Any] = {}

    def record(
        self, stream: Any, work: Callable[[], object], blocks: Iterable[Any]
    ) -> None:
        """Add a stream's work on some memory."""
        if stream in self.joined and stream not in self.unjoined:
            self.unjoined.append(stream)
        self._work.append(work)
        self._blocks.update((id(block), block) for block in blocks)

    def graph(self) -> Graph:
        """All that was recorded."""
        return Graph(self._work, list(self._blocks.values()))


class Graph:
    """Recorded work."""

    __module__ = "cupy.cuda.graph"

    def __init__(self, work: list[Callable[[], object]], blocks: list[Any]) -> None:
        self._work = work
        self._memory = [(block, block.tenancies) for block in blocks]

    def launch(self, stream: Any = None) -> None:
        """Do the work, on the current stream by default."""
        from tests.emulated_cupy.streams import current_stream

        target = stream or current_stream()
        target._refuse_while_capturing()
        for block, tenancies in self._memory:
            fault = _fault(block, tenancies)
            if fault:
                message = f"Graph.launch: memory that the graph uses {fault}"
                raise UndefinedBehaviour(message)
        target._run(self._do, (), put_off=True)

    def _do(self) -> None:
        for work in self._work:
            work()

    def upload(self, stream: Any = None) -> None:
        """Prepare the work, on the current stream by default."""


def _fault(block: Any, tenancies: int) -> str | None:
    if block.released:
        return "was returned to the device"
    if block.in_use and block.tenancies != tenancies:
        return "was freed and belongs to another array now"
    if not block.in_use and not block.is_private:
        return (
            "was freed, and any array may get it next: keep the arrays, or capture "
            "inside `with cupy.cuda.using_allocator(pool.malloc)` with a "
            "cupy.cuda.MemoryPool of the graph's own"
        )
    return None
