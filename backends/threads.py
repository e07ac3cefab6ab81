"""One pool of threads for work that does not hold the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def thread_count() -> int:
    """Threads to use by default: ``VDCORE_NUM_THREADS``, or one a core."""
    setting = os.environ.get("VDCORE_NUM_THREADS")
    if setting:
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_parallel(work: Callable[[int, int], None], bounds: list[int]) -> None:
    """Call ``work(first, last)`` on each pair of neighbours in `bounds`, at once.

    The calling thread takes the first pair; what is raised anywhere is raised here.
    """
    others = [
        _pool().submit(work, bounds[part], bounds[part + 1])
        for part in range(1, len(bounds) - 1)
    ]
    work(bounds[0], bounds[1])
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(thread_count() - 1, 1), "vdcore")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)
