"""What moved between host and device, and how often the host waited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Transfers:
    """Counts of what happened inside a ``with transfers()`` block.

    Attributes
    ----------
    to_device, to_host : int
        Copies of arrays, each of whatever size.
    synchronizations : int
        Times that the host waited for the device: copies to the host, Python numbers
        taken from arrays, array shapes that depend on values, and ``synchronize``.
    launches : int
        Kernels, array functions and graphs that were started.
    """

    to_device: int = 0
    to_host: int = 0
    synchronizations: int = 0
    launches: int = 0


_open: list[Transfers] = []


@contextmanager
def transfers() -> Iterator[Transfers]:
    """Count transfers inside a ``with`` block."""
    counts = Transfers()
    _open.append(counts)
    try:
        yield counts
    finally:
        _open.remove(counts)


def count(what: str) -> None:
    """Add one to a field of all counts that are open."""
    for counts in _open:
        setattr(counts, what, getattr(counts, what) + 1)
