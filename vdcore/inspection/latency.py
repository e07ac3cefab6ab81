"""How long predictions take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

BUSY = 1.5  # a spread above this is not the predictors' own


@dataclass(frozen=True)
class Latency:
    """Median microseconds a call: one row a batch size, one column a predictor.

    Attributes
    ----------
    names : tuple of str
    batches : tuple of int
    microseconds : tuple of rows
    spread : float
        Upper over lower quartile of the rounds, the largest in the table. A busy
        machine makes it large.
    """

    names: tuple[str, ...]
    batches: tuple[int, ...]
    microseconds: tuple[tuple[float, ...], ...]
    spread: float = 1.0

    def __str__(self) -> str:
        head = f"{'batch':>6}" + "".join(f"{name:>14}" for name in self.names)
        rows = [f"{head}   {self.names[0]} / {self.names[-1]}"]
        for batch, times in zip(self.batches, self.microseconds, strict=True):
            cells = "".join(f"{value:11.1f} us" for value in times)
            rows.append(f"{batch:>6}{cells}   {times[0] / times[-1]:.1f}x")
        if self.spread > BUSY:
            rows.append(
                f"the machine was busy: times vary by a factor of {self.spread:.1f}; "
                "repeat when it is idle"
            )
        return "\n".join(rows)


def compare_latency(
    predictors: Mapping[str, Callable[[numpy.ndarray], Any]],
    x: numpy.ndarray,
    batches: Sequence[int] = (1, 16, 128),
    seconds: float = 0.2,
) -> Latency:
    """Time predictors in turn on the same batches, so that noise strikes all alike.

    Parameters
    ----------
    predictors : mapping from name to callable
        The first is what the others are compared with.
    x : array, shape (n, ...)
        Examples, as many as the largest batch at least.
    batches : sequence of int
    seconds : float
        About how long to time each predictor at each batch size.

    Returns
    -------
    Latency
        Medians over rounds in which each predictor is called some times in a row.
    """
    if len(x) < max(batches):
        message = (
            f"compare_latency: `x` must hold {max(batches)} examples for the largest "
            f"batch, got {len(x)}"
        )
        raise ValueError(message)
    table = []
    spread = 1.0
    for batch in batches:
        part = numpy.ascontiguousarray(x[:batch])
        calls = {}
        for name, predict in predictors.items():
            predict(part)
            once = _time(predict, part, 3)
            calls[name] = max(1, int(seconds / 15 / once))
        rounds: dict[str, list[float]] = {name: [] for name in predictors}
        for _ in range(15):
            for name, predict in predictors.items():
                rounds[name].append(_time(predict, part, calls[name]))
        quartiles = [statistics.quantiles(r, n=4) for r in rounds.values()]
        table.append(tuple(1e6 * median for _, median, _ in quartiles))
        spread = max(spread, *(upper / lower for lower, _, upper in quartiles))
    return Latency(tuple(predictors), tuple(batches), tuple(table), spread)


def _time(predict: Callable, x: numpy.ndarray, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        predict(x)
    return (time.perf_counter() - start) / calls
