"""How many threads to use."""

from __future__ import annotations

import os
from functools import cache


def thread_count() -> int:
    """Threads to use by default: ``VDCORE_NUM_THREADS``, or one a core."""
    setting = os.environ.get("VDCORE_NUM_THREADS")
    return int(setting) if setting else _cores()


@cache
def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
