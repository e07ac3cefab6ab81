"""Fair timing on a busy machine: interleaved rounds, medians, ratios in a round."""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
LIBRARIES = "vdcore numpy scipy numba torch jax".split()


def parse_arguments(
    description: str, add_options: Callable[[argparse.ArgumentParser], object] = id
) -> argparse.Namespace:
    """Read --quick and --threads, and limit every library to that many threads.

    `add_options` adds a benchmark's own options to the parser.

    To be called before NumPy or torch is imported: they read the limits then.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="a few rounds, print only, write nothing"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each library")
    add_options(parser)
    arguments = parser.parse_args()
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(arguments.threads)
    return arguments


@dataclass(frozen=True)
class Timing:
    """Median seconds a call, one for each round.

    Attributes
    ----------
    rounds : list of float
    """

    rounds: list[float]

    @property
    def median(self) -> float:
        """The median over the rounds, in seconds."""
        return statistics.median(self.rounds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds were faster, and a quarter slower, in seconds."""
        first, _, third = statistics.quantiles(self.rounds, n=4)
        return first, third

    def ratio(self, other: Timing) -> float:
        """Median over the rounds of this one's time in units of the other's.

        Both times of a round are taken within seconds of each other, so a machine that
        slows down for a while does not change the ratio.
        """
        pairs = zip(self.rounds, other.rounds, strict=True)
        return statistics.median(mine / others for mine, others in pairs)


def interleave(
    cases: dict[str, Callable[[], object]], rounds: int, seconds: float
) -> dict[str, Timing]:
    """Time all `cases` in turn, `rounds` times, for `seconds` each.

    Parameters
    ----------
    cases : dict
        Name to a function of no arguments.
    rounds : int
    seconds : float
        Calls of one case in one round go on for so long, but there are at least five.

    Returns
    -------
    dict
        Name to Timing.
    """
    names = list(cases)
    medians: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds):
        # Rotated, so that no case always follows the same other.
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            time.sleep(0.05)  # the previous case's worker threads spin for a while
            medians[name].append(_median_call(cases[name], seconds))
    return {name: Timing(times) for name, times in medians.items()}


def _median_call(function: Callable[[], object], seconds: float) -> float:
    function()
    function()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def machine(threads: int) -> dict[str, object]:
    """What a figure depends on: processor, threads, versions."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """A table, first column left, the others right, readable as text too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(w) for cell, w in others)]
        return "| " + " | ".join(padded) + " |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def report(
    name: str, title: str, table: str, figures: dict, threads: int, quick: bool
) -> None:
    """Print a table; unless `quick`, write it and its figures to results/`name`.*."""
    about = machine(threads)
    lines = ", ".join(f"{key} {value}" for key, value in about.items())
    text = f"# {title}\n\n{table}\n\n{lines}\n"
    print(text)
    if quick:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    record = json.dumps({"machine": about, **figures}, indent=1)
    (RESULTS / f"{name}.json").write_text(record + "\n", encoding="utf-8")
    print(f"written to {RESULTS / name}.md and .json")
