"""How many threads to use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

_limit: ContextVar[int | None] = ContextVar("vdcore threads", default=None)


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let :func:`thread_count` say so many in the ``with`` block, at most."""
    token = _limit.set(threads)
    try:
        yield
    finally:
        _limit.reset(token)


def thread_count() -> int:
    """Threads to use by default: ``VDCORE_NUM_THREADS``, or one a core.

    No more than :func:`limited_to` allows.

    Raises
    ------
    ValueError
        If the environment variable is not a positive integer.
    """
    threads = _threads(os.environ.get("VDCORE_NUM_THREADS", ""))
    limit = _limit.get()
    return threads if limit is None else min(threads, limit)


@cache
def _threads(setting: str) -> int:
    if not setting:
        return _cores()
    if not setting.isdecimal() or int(setting) < 1:
        message = (
            "thread_count: the environment variable VDCORE_NUM_THREADS must be a "
            f"positive integer, got {setting!r}; unset it to use all cores"
        )
        raise ValueError(message)
    return int(setting)


def _cores() -> int:
    """Cores that this process may use, of those the machine has."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limit = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds a period
    if limit.exists():
        quota, period = limit.read_text().split()
        if quota != "max":
            cores = min(cores, -(-int(quota) // int(period)))
    return cores
