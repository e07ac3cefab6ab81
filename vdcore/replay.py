"""What a training step takes from the host, where a GPU repeats the step by itself.

A GPU can record the work of a step once and repeat it without running Python again
(a CUDA graph). What Python computed while the step was recorded would be repeated too:
the step size of Adam, the coefficient of the KL term, the keys of random numbers,
which examples make up the batch. So a step takes such numbers through :func:`live`,
and does such things as to count iterations through :func:`each_time`. While nothing is
recorded, neither does anything besides calling what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from vdcore.arrays import Array


class Recording(Protocol):
    """A step that is being recorded, for example into a CUDA graph."""

    def live(self, compute: Callable[[], Any], like: Array | None) -> Array:
        """Return an array of the device that holds `compute()` in each repetition."""

    def each_time(self, action: Callable[[], None]) -> None:
        """Do `action` now, and in each repetition."""


_recording: ContextVar[Recording | None] = ContextVar("vdcore_recording", default=None)


@contextmanager
def recorded_by(recording: Recording) -> Iterator[None]:
    """Let `recording` take up what is live in the ``with`` block."""
    token = _recording.set(recording)
    try:
        yield
    finally:
        _recording.reset(token)


def live(compute: Callable[[], Any], like: Array | None = None) -> Any:
    """Take a number that may be another one in each step.

    Parameters
    ----------
    compute : callable
        Called without arguments, on the host; returns a number or a NumPy array, of the
        same shape and dtype each time.
    like : array, optional
        What the number is used with: a Python number is made an array of its dtype.

    Returns
    -------
    float, int or numpy.ndarray; while a step is recorded, array of the device
        What `compute` returns, there and in each repetition of the step.
    """
    recording = _recording.get()
    return compute() if recording is None else recording.live(compute, like)


def each_time(action: Callable[[], None]) -> None:
    """Do something on the host, also where the step that it is part of is repeated."""
    recording = _recording.get()
    if recording is None:
        action()
    else:
        recording.each_time(action)
