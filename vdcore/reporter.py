"""Values that models report while they run, and their averages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from vdcore.arrays import array_namespace, is_array, is_on_gpu, to_numpy, untraced
from vdcore.replay import each_time

# The reporter that is listening, with the dictionary it writes to: local to a thread
# or task, so that two trainers may run side by side.
_listening: ContextVar[tuple[Reporter, dict[str, Any]] | None] = ContextVar(
    "vdcore_reporter", default=None
)


class Reporter:
    """Gives reported values the names of the objects that report them.

    Examples
    --------
    >>> model = object()
    >>> reporter = Reporter()
    >>> reporter.add_observer("main", model)
    >>> observation = {}
    >>> with reporter.scope(observation):
    ...     report({"loss": 0.5}, model)
    >>> observation
    {'main/loss': 0.5}
    """

    def __init__(self) -> None:
        # Keeping the observer keeps its id from being given to another object.
        self._observers: dict[int, tuple[str, Any]] = {}

    def add_observer(self, name: str, observer: Any) -> None:
        """Let `observer` report under `name`."""
        self._observers[id(observer)] = (name, observer)

    def add_observers(self, prefix: str, observers: Iterable[tuple[str, Any]]) -> None:
        """Add pairs of a path and an object, such as ``link.namedlinks()``.

        The path ``"/"`` of a model itself stands for the bare prefix.
        """
        for path, observer in observers:
            self.add_observer((prefix + path).rstrip("/"), observer)

    @contextmanager
    def scope(self, observation: dict[str, Any]) -> Iterator[None]:
        """Collect in `observation` what is reported inside a ``with`` block."""
        token = _listening.set((self, observation))
        try:
            yield
        finally:
            _listening.reset(token)

    def full_names(
        self, values: Mapping[str, Any], observer: Any = None
    ) -> dict[str, Any]:
        """`values` with their keys prefixed by the name of `observer`."""
        if observer is None:
            return dict(values)
        if id(observer) not in self._observers:
            known = ", ".join(sorted(name for name, _ in self._observers.values()))
            message = (
                f"report: `observer`, a {type(observer).__name__}, is not known to the "
                f"reporter; known are {known or 'none'}. Register it by add_observer, "
                "or make it part of the model that is trained"
            )
            raise ValueError(message)
        name, _ = self._observers[id(observer)]
        return {f"{name}/{key}": value for key, value in values.items()}


def report(values: Mapping[str, Any], observer: Any = None) -> None:
    """Report values to the reporter that is listening; without one nothing happens.

    Parameters
    ----------
    values : dict of numbers or arrays of shape ()
        A value of the same name replaces the former one. An array stays on its
        device, so that reporting does not wait for a GPU. Where a step is recorded
        and repeated, arrays are reported anew, numbers as they were: see
        :func:`vdcore.replay.live`.
    observer
        The object that reports, usually a link; its name becomes the prefix.

    Raises
    ------
    TypeError
        If a value is no number.
    ValueError
        If the reporter does not know `observer`.
    """
    if _listening.get() is None:
        return
    values = {key: untraced(value) for key, value in values.items()}
    for key, value in values.items():
        scalar = (
            value.shape == () if is_array(value) else isinstance(value, int | float)
        )
        if not scalar:
            got = (
                f"an array of shape {tuple(value.shape)}"
                if is_array(value)
                else type(value).__name__
            )
            message = (
                f"report: {key!r} must be a number or an array of shape (), got {got}; "
                "report its mean or its sum"
            )
            raise TypeError(message)
    each_time(lambda: _deliver(values, observer))


def _deliver(values: Mapping[str, Any], observer: Any) -> None:
    listening = _listening.get()
    if listening is not None:
        reporter, observation = listening
        observation.update(reporter.full_names(values, observer))


def reported() -> dict[str, Any]:
    """What has been reported in the present scope, by full name."""
    listening = _listening.get()
    return {} if listening is None else dict(listening[1])


def retract() -> None:
    """Forget what has been reported in the present scope, as for a discarded step."""
    listening = _listening.get()
    if listening is not None:
        listening[1].clear()


@contextmanager
def report_scope(observation: dict[str, Any]) -> Iterator[None]:
    """Collect in `observation`, under the names of the present reporter.

    Raises
    ------
    RuntimeError
        If there is no reporter; use :meth:`Reporter.scope`.
    """
    listening = _listening.get()
    if listening is None:
        message = (
            "report_scope: there is no reporter; use Reporter().scope(observation)"
        )
        raise RuntimeError(message)
    with listening[0].scope(observation):
        yield


class Summary:
    """Running mean and deviation of a number, in double precision."""

    def __init__(self) -> None:
        self._weight = 0.0
        self._sum = 0.0
        self._sum_of_squares = 0.0

    def add(self, value: Any, weight: float = 1.0) -> None:
        """Add a number that stands for `weight` observations."""
        value = float(value)
        self.add_sums(weight, weight * value, weight * value * value)

    def add_sums(self, weight: float, total: float, squares: float) -> None:
        """Add weighted observations of which the sums are known."""
        self._weight += weight
        self._sum += total
        self._sum_of_squares += squares

    def merge(self, other: Summary) -> None:
        """Add all that has been added to another summary."""
        self.add_sums(other._weight, other._sum, other._sum_of_squares)

    def compute_mean(self) -> float:
        """Weighted mean; NaN when nothing was added."""
        return self._sum / self._weight if self._weight else math.nan

    def make_statistics(self) -> tuple[float, float]:
        """Weighted mean and standard deviation (of the population, not corrected)."""
        mean = self.compute_mean()
        if not self._weight:
            return mean, math.nan
        variance = self._sum_of_squares / self._weight - mean * mean
        return mean, math.sqrt(variance) if not variance < 0 else 0.0

    def serialize(self, serializer: Any) -> None:
        """Read or write the sums."""
        self._weight = serializer("weight", self._weight)
        self._sum = serializer("sum", self._sum)
        self._sum_of_squares = serializer("squares", self._sum_of_squares)


class DictSummary:
    """A :class:`Summary` for each key of the dictionaries added.

    Arrays of a GPU are added up there, all those of a dictionary at once; reading the
    result is what waits for it.

    Examples
    --------
    >>> summary = DictSummary()
    >>> summary.add({"loss": 1.0}, weight=3)
    >>> summary.add({"loss": 2.0, "lr": 0.1}, weight=1)
    >>> summary.compute_mean()
    {'loss': 1.25, 'lr': 0.1}
    """

    def __init__(self) -> None:
        self._summaries: dict[str, Summary] = {}
        self._on_gpu: dict[tuple[str, ...], _SumsOnGPU] = {}

    def add(self, values: Mapping[str, Any], weight: float = 1.0) -> None:
        """Add the numbers of a dictionary; keys may differ from one to the next."""
        on_gpu = {key: value for key, value in values.items() if is_on_gpu(value)}
        for key, value in values.items():
            summary = self._summaries.setdefault(key, Summary())
            if key not in on_gpu:
                summary.add(value, weight)
        if on_gpu:
            sums = self._on_gpu.setdefault(tuple(on_gpu), _SumsOnGPU())
            sums.add(list(on_gpu.values()), weight)

    def merge(self, other: DictSummary) -> None:
        """Add all that has been added to another summary."""
        for key, summary in other._collected().items():
            self._summaries.setdefault(key, Summary()).merge(summary)

    def __getstate__(self) -> dict[str, Any]:
        return {"_summaries": self._collected(), "_on_gpu": {}}

    def compute_mean(self) -> dict[str, float]:
        """Means by key."""
        return {key: s.compute_mean() for key, s in self._collected().items()}

    def make_statistics(self) -> dict[str, float]:
        """Means by key, and deviations by key with ``.std`` appended."""
        statistics = {}
        for key, summary in self._collected().items():
            statistics[key], statistics[f"{key}.std"] = summary.make_statistics()
        return statistics

    def serialize(self, serializer: Any) -> None:
        """Read or write the summaries."""
        names = serializer("names", list(self._collected()))
        self._summaries = {key: self._summaries.get(key, Summary()) for key in names}
        for index, summary in enumerate(self._summaries.values()):
            summary.serialize(serializer[str(index)])

    def _collected(self) -> dict[str, Summary]:
        """The summaries, with what has been added up on a GPU."""
        for keys, sums in self._on_gpu.items():
            rows = zip(keys, *map(to_numpy, (sums.total, sums.squares)), strict=True)
            for key, total, squares in rows:
                self._summaries[key].add_sums(sums.weight, float(total), float(squares))
        self._on_gpu.clear()
        return self._summaries


class _SumsOnGPU:
    """Weighted sums of numbers, and of their squares, as vectors."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.total: Any = 0.0
        self.squares: Any = 0.0

    def add(self, values: list[Any], weight: float) -> None:
        xp = array_namespace(*values)
        if len({value.dtype for value in values}) > 1:
            values = [xp.astype(value, xp.float64) for value in values]
        row = xp.astype(xp.stack(values), xp.float64)
        self.weight += weight
        self.total = self.total + row * weight
        self.squares = self.squares + row * row * weight
