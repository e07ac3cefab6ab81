"""What a GPU did in some steps: kernels, copies, time."""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

COPIES = "gpu_memcpy"
ACTIVITIES = ("kernel", "gpu_memset", COPIES)  # as the profiler names them


def profile_gpu(step: Callable[[], Any], steps: int = 100, warm_up: int = 10) -> str:
    """Run steps and tabulate what a GPU did in them.

    Parameters
    ----------
    step : callable
        For example the ``update`` of an updater whose model is on a GPU.
    steps : int
    warm_up : int
        Steps before those, in which kernels are compiled and memory is taken.

    Returns
    -------
    str
        A line for each kernel and kind of copy, by time: calls and microseconds a step;
        then the copies between host and GPU, and how long the GPU was at work.

    Raises
    ------
    RuntimeError
        If torch is not installed, whose profiler reads what the driver records (of any
        library), or there is no record of a GPU.
    """
    try:
        import torch
    except ImportError as error:
        message = (
            "profile_gpu: torch is not installed, and its profiler is what reads the "
            "GPU's record; run `pip install torch`"
        )
        raise RuntimeError(message) from error
    for _ in range(warm_up):
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profiler:
            start = time.perf_counter()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            elapsed = time.perf_counter() - start
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    return tabulated(events, steps, 1e6 * elapsed)


def tabulated(events: Iterable[dict[str, Any]], steps: int, elapsed: float) -> str:
    """Make the table of :func:`profile_gpu`.

    Parameters
    ----------
    events : iterable of dict
        Of a trace in Chrome's format: ``cat``, ``name``, ``dur`` in microseconds, and
        for copies ``args["bytes"]``.
    steps : int
    elapsed : float
        Microseconds that all steps took.
    """
    events = [event for event in events if event.get("cat") in ACTIVITIES]
    if not events:
        message = (
            "profile_gpu: the record holds no work of a GPU; is the model on one, and "
            "may this user read its counters?"
        )
        raise RuntimeError(message)
    calls: dict[str, int] = defaultdict(int)
    times: dict[str, float] = defaultdict(float)
    for event in events:
        calls[event["name"]] += 1
        times[event["name"]] += event["dur"]
    lines = [f"{'calls':>8} {'us':>9}  a step, of {steps}"]
    lines += [
        f"{calls[name] / steps:8.2f} {times[name] / steps:9.2f}  {name[:100]}"
        for name in sorted(times, key=times.__getitem__, reverse=True)
    ]
    lines.append("")
    for direction, what in (("HtoD", "to the GPU"), ("DtoH", "from the GPU")):
        copies = [e for e in events if e["cat"] == COPIES and direction in e["name"]]
        size = sum(event["args"]["bytes"] for event in copies)
        lines.append(
            f"copies {what}: {len(copies) / steps:.2f} a step, "
            f"{size / steps:.0f} bytes a step"
        )
    kernels = sum(event["cat"] == "kernel" for event in events)
    lines.append(
        f"{kernels / steps:.1f} kernels a step; the GPU worked "
        f"{sum(times.values()) / steps:.0f} of {elapsed / steps:.0f} us a step"
    )
    return "\n".join(lines)
