"""A step of training as a CUDA graph: recorded once, then repeated by one launch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import cupy

from vdcore.backends.cuda.host_numbers import HostNumbers
from vdcore.replay import recorded_by


class StepGraph:
    """The device's part of a step as a graph; the host's part as a list of calls.

    Memory that the step takes for itself comes from a pool of its own, which nothing
    else takes memory from: it is the graph's between repetitions too.

    Parameters
    ----------
    step : callable
        Has been called before, so that whatever is made once is there. Recording does
        its part on the host, and so counts as a step once :meth:`launch` is called.

    Raises
    ------
    RuntimeError
        If the step needs a result of the device on the host, or brings along data.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        # One that waits for the default stream, and that one for it: what happens
        # between two steps, such as an evaluation, keeps its place.
        self._stream = cupy.cuda.Stream()
        self._numbers = HostNumbers(self._stream)
        self._host_part: list[Callable[[], None]] = []
        self._pool = cupy.cuda.MemoryPool()
        self._graph = self._record(step)

    def _record(self, step: Callable[[], None]) -> Any:
        with (
            self._stream,
            cupy.cuda.using_allocator(self._pool.malloc),
            recorded_by(self),
        ):
            self._stream.begin_capture()
            try:
                step()
            except BaseException as error:
                with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
                    self._stream.end_capture()
                if isinstance(error, cupy.cuda.runtime.CUDARuntimeError):
                    raise RuntimeError(_explained(error)) from error
                raise
            return self._stream.end_capture()

    def live(self, compute: Callable[[], Any], like: Any) -> Any:
        """Take a number from the host now and in each repetition."""
        dtype = None if like is None else like.dtype
        number, take = self._numbers.add(compute, dtype)
        self._host_part.append(take)
        return number

    def each_time(self, action: Callable[[], None]) -> None:
        """Do something on the host now and in each repetition."""
        action()
        self._host_part.append(action)

    def launch(self) -> None:
        """Do the step that has just been recorded."""
        self._numbers.upload()
        self._graph.launch(self._stream)

    def wait(self) -> None:
        """Wait for all steps: the memory of a graph at work must not be given back."""
        self._stream.synchronize()

    def repeat(self) -> None:
        """Do a step."""
        for call in self._host_part:
            call()
        self.launch()


def _explained(error: Exception) -> str:
    return (
        f"recording a step as a CUDA graph failed: {error}. A recorded step may not "
        "look at results of the GPU, nor bring along data of the host: put the "
        "data set on the GPU (dataset.to_device(0)), let no hook or loss function "
        "call float(), or train without graph=True"
    )
