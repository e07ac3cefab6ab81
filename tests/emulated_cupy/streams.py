"""Streams and events: when work is done, or that it is recorded.

Work runs at once, but for what the host need not wait for to go on, copies from pinned
memory and launches of graphs: streams other than the default one put these off for as
long as a device might, so that a host that does not wait as it should is found out.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy

from tests.emulated_cupy import devices
from tests.emulated_cupy.errors import (
    CAPTURE_IMPLICIT,
    CAPTURE_INVALIDATED,
    CAPTURE_ISOLATION,
    CAPTURE_UNJOINED,
    CAPTURE_UNSUPPORTED,
    INVALID_VALUE,
    CUDARuntimeError,
)
from tests.emulated_cupy.graphs import Capture, Graph
from tests.emulated_cupy.transfers import count

_pointers = itertools.count(0x1000, 16)
_thread = threading.local()
_capturing: list[_BaseStream] = []
_streams_alive: weakref.WeakSet[_BaseStream] = weakref.WeakSet()


class _Queue:
    """Work that was put off.

    Attributes
    ----------
    length : int
        How much work was ever put off.
    """

    def __init__(self) -> None:
        self.length = 0
        self._work: deque[Callable[[], object]] = deque()

    def put_off(self, work: Callable[[], object]) -> None:
        """Do it later."""
        self._work.append(work)
        self.length += 1

    def finish(self, length: int | None = None) -> None:
        """Do all of it, or all up to when the queue was so long."""
        with numpy.errstate(all="ignore"):
            while self._work and self.length - len(self._work) != length:
                self._work.popleft()()


def _finish_elsewhere(queue: _Queue) -> None:
    """Do the work of a stream that is no more, in a thread of its own.

    A finalizer may run in the middle of anything. In the middle of entering
    numpy.errstate, a context variable, another change of it crashes the interpreter.
    """
    if queue.length:
        thread = threading.Thread(target=queue.finish)
        thread.start()
        thread.join()


class _BaseStream:
    is_non_blocking = False

    def __init__(self, ptr: int, device_id: int) -> None:
        self.ptr = ptr
        self.device_id = device_id
        self._capture: Capture | None = None
        self._before: list[_BaseStream] = []
        self._queue = _Queue()
        _streams_alive.add(self)
        weakref.finalize(self, _finish_elsewhere, self._queue).atexit = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BaseStream) and self.ptr == other.ptr

    def __hash__(self) -> int:
        return hash(self.ptr)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def __enter__(self) -> _BaseStream:
        self._before.append(current_stream())
        return self.use()

    def __exit__(self, *exception: object) -> None:
        _streams()[devices.current_id()] = self._before.pop()

    def use(self) -> _BaseStream:
        """Make the stream current."""
        if self.device_id not in (-1, devices.current_id()):
            message = (
                f"The device that the stream is created on ({self.device_id}) does "
                f"not match with the current device ({devices.current_id()})"
            )
            raise RuntimeError(message)
        _streams()[devices.current_id()] = self
        return self

    @property
    def done(self) -> bool:
        """Whether all work is done."""
        self._refuse_while_capturing()
        self._finish()
        return True

    def synchronize(self) -> None:
        """Wait for the work."""
        self._refuse_while_capturing()
        self._finish()
        count("synchronizations")

    def record(self, event: Event | None = None) -> Event:
        """Record an event, a new one by default."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let later work wait for an event.

        A stream that waits for an event of a capture takes part in it from then on.
        """
        if event._capture is None:
            event._finish()
            if self._capture is not None and event._recorded is not None:
                self._capture.invalid = True
                raise CUDARuntimeError(CAPTURE_ISOLATION)
        elif self._capture is None:
            self._capture = event._capture
            self._capture.joined.append(self)
        elif event._stream in event._capture.unjoined:
            event._capture.unjoined.remove(event._stream)

    def launch_host_func(self, callback: Callable[[Any], None], arg: Any) -> None:
        """Call a function on the host when the work before it is done."""
        self._run(lambda: callback(arg), ())

    def begin_capture(self, mode: int | None = None) -> None:
        """Record work from here on, and do none of it."""
        if self.ptr in (0, 1):
            message = "cannot capture on the default (legacy) stream"
            raise RuntimeError(message)
        if self._capture is not None:
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)
        self._capture = Capture()
        _capturing.append(self)

    def end_capture(self) -> Graph:
        """Stop recording; the work is the result."""
        capture = self._capture
        if capture is None or self not in _capturing:
            raise CUDARuntimeError(INVALID_VALUE)
        _capturing.remove(self)
        for stream in (self, *capture.joined):
            stream._capture = None
        if capture.invalid:
            raise CUDARuntimeError(CAPTURE_INVALIDATED)
        if capture.unjoined:
            raise CUDARuntimeError(CAPTURE_UNJOINED)
        return capture.graph()

    def is_capturing(self) -> bool:
        """Whether work is recorded."""
        return self._capture is not None

    def _run(
        self,
        work: Callable[[], object],
        blocks: Iterable[Any],
        put_off: bool = False,
    ) -> None:
        if self._capture is not None:
            self._capture.record(self, work, blocks)
            return
        count("launches")
        if put_off and self.ptr != 0:
            self._queue.put_off(work)
            return
        self._finish()
        with numpy.errstate(all="ignore"):
            work()

    def _finish(self) -> None:
        """Do what was put off; the default stream waits for blocking streams too."""
        self._queue.finish()
        if self.ptr != 0:
            return
        for stream in list(_streams_alive):
            if not stream.is_non_blocking:
                if stream._capture is not None:
                    stream._capture.invalid = True
                    raise CUDARuntimeError(CAPTURE_IMPLICIT)
                stream._queue.finish()

    def _refuse_while_capturing(self) -> None:
        if self._capture is not None:
            self._capture.invalid = True
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)


class Stream(_BaseStream):
    """A stream of work on the current device."""

    __module__ = "cupy.cuda.stream"

    null: Stream
    ptds: Stream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        default = null or ptds
        ptr = (2 if ptds else 0) if default else next(_pointers)
        super().__init__(ptr, -1 if default else devices.current_id())
        self.is_non_blocking = non_blocking
        self.priority = priority or 0


class ExternalStream(_BaseStream):
    """A stream by its pointer."""

    __module__ = "cupy.cuda.stream"

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        super().__init__(ptr, device_id)


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)


class Event:
    """A point in a stream's work."""

    __module__ = "cupy.cuda.stream"

    def __init__(
        self,
        block: bool = False,
        disable_timing: bool = False,
        interprocess: bool = False,
    ) -> None:
        if interprocess and not disable_timing:
            message = "Timing must be disabled for interprocess events"
            raise ValueError(message)
        self.ptr = next(_pointers)
        self._timed = not disable_timing
        self._recorded: float | None = None
        self._stream: _BaseStream | None = None
        self._capture: Capture | None = None
        self._length = 0  # of the stream's queue

    @property
    def done(self) -> bool:
        """Whether the stream got here."""
        self._finish()
        return True

    def record(self, stream: _BaseStream | None = None) -> None:
        """Mark this point of a stream, the current one by default."""
        self._stream = stream or current_stream()
        self._capture = self._stream._capture
        self._length = self._stream._queue.length
        self._recorded = time.perf_counter()

    def synchronize(self) -> None:
        """Wait until the stream got here."""
        if self._capture is not None:
            self._capture.invalid = True
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)
        self._finish()
        count("synchronizations")

    def _finish(self) -> None:
        if self._stream is not None:
            self._stream._queue.finish(self._length)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two events."""
    start, end = start_event._recorded, end_event._recorded
    if start is None or end is None or not (start_event._timed and end_event._timed):
        raise CUDARuntimeError(INVALID_VALUE)
    return 1e3 * (end - start)


def _streams() -> dict[int, _BaseStream]:
    if not hasattr(_thread, "streams"):
        _thread.streams = {}
    return _thread.streams


def current_stream(device_id: int = -1) -> Any:
    """The stream that work on a device goes to."""
    device = devices.current_id() if device_id == -1 else device_id
    return _streams().get(device, Stream.null)


def capturing() -> bool:
    """Whether the current stream records its work."""
    return current_stream().is_capturing()


def run(work: Callable[[], object], blocks: Iterable[Any]) -> None:
    """Do work on the current stream, or record it.

    Parameters
    ----------
    work : callable
        Reads and writes device memory.
    blocks : iterable of Block
        That memory.
    """
    current_stream()._run(work, blocks)


def synchronize() -> None:
    """The host waits for the current stream; an error while that captures."""
    current_stream().synchronize()


def synchronize_device() -> None:
    """The host waits for all streams; an error while one of them captures."""
    for stream in _capturing:
        stream._refuse_while_capturing()
    for stream in list(_streams_alive):
        stream._queue.finish()
    count("synchronizations")


def refuse_while_capturing() -> None:
    """Raise, for what a stream cannot record, if the current stream captures."""
    current_stream()._refuse_while_capturing()
