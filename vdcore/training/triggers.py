"""When something happens: at intervals, at given points, at a best value.

A trigger is called with the trainer after each iteration and returns whether to fire.
Those of time read the updater and hold no state, other than in Chainer: they may be
asked any number of times, and a resumed run fires where the first would have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vdcore.reporter import DictSummary
from vdcore.serialization import Serializer

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer
    from vdcore.training.updater import StandardUpdater

Trigger = Callable[["Trainer"], bool]
UNITS = ("iteration", "epoch")


def get_trigger(trigger: Any) -> Trigger:
    """Make a trigger of a short form.

    Parameters
    ----------
    trigger : None, tuple or callable
        None never fires; ``(period, unit)`` is an :class:`IntervalTrigger`; a callable
        is a trigger already.
    """
    if trigger is None:
        return never
    if callable(trigger):
        return trigger
    return IntervalTrigger(*_interval("get_trigger", "trigger", trigger))


def never(trainer: Trainer) -> bool:
    """Trigger that does not fire."""
    return False


def check_unit(operation: str, unit: str) -> None:
    """Raise ValueError unless `unit` is a unit of training time."""
    if unit not in UNITS:
        message = f"{operation}: `unit` must be one of {UNITS}, got {unit!r}"
        raise ValueError(message)


def elapsed(updater: StandardUpdater, unit: str) -> float:
    """Training time since the start, in `unit`."""
    return updater.iteration if unit == "iteration" else updater.epoch_detail


def _previous(updater: StandardUpdater, unit: str) -> float:
    if unit == "iteration":
        return max(updater.iteration - 1, 0)
    return updater.previous_epoch_detail


class IntervalTrigger:
    """Fires each time a multiple of a period is reached or passed.

    Parameters
    ----------
    period : float
        In `unit`; may be a fraction of an epoch.
    unit : {"iteration", "epoch"}
    """

    def __init__(self, period: float, unit: str) -> None:
        check_unit("IntervalTrigger", unit)
        if not period > 0:
            message = f"IntervalTrigger: `period` must be positive, got {period!r}"
            raise ValueError(message)
        self.period = period
        self.unit = unit

    def __call__(self, trainer: Trainer) -> bool:
        """Whether the last iteration reached or passed a multiple of the period."""
        before = _previous(trainer.updater, self.unit) // self.period
        return before != elapsed(trainer.updater, self.unit) // self.period


class DeadlineTrigger:
    """Fires from a point on: when a trainer stops that was given ``(time, unit)``.

    Chainer uses an interval there, which a run resumed beyond it would pass by.

    Parameters
    ----------
    time : float
        In `unit`; 0 is before the first iteration.
    unit : {"iteration", "epoch"}
    """

    def __init__(self, time: float, unit: str) -> None:
        check_unit("DeadlineTrigger", unit)
        if not time >= 0:
            message = f"DeadlineTrigger: `time` must not be negative, got {time!r}"
            raise ValueError(message)
        self.time = time
        self.unit = unit

    def __call__(self, trainer: Trainer) -> bool:
        """Whether the time has come."""
        return elapsed(trainer.updater, self.unit) >= self.time


def get_stop_trigger(trigger: Any) -> Trigger:
    """Make the trigger that ends training of the same short forms."""
    if trigger is None or callable(trigger):
        return get_trigger(trigger)
    return DeadlineTrigger(*_interval("Trainer", "stop_trigger", trigger))


class ManualScheduleTrigger:
    """Fires at given points of training time.

    Parameters
    ----------
    points : float or sequence of float
        In `unit`.
    unit : {"iteration", "epoch"}
    """

    def __init__(self, points: Any, unit: str) -> None:
        check_unit("ManualScheduleTrigger", unit)
        self.points = list(points) if hasattr(points, "__iter__") else [points]
        self.unit = unit

    def __call__(self, trainer: Trainer) -> bool:
        """Whether the last iteration reached or passed one of the points."""
        before = _previous(trainer.updater, self.unit)
        now = elapsed(trainer.updater, self.unit)
        return any(before < point <= now for point in self.points)


class BestValueTrigger:
    """Fires when the average of an observed value over an interval is the best yet.

    Parameters
    ----------
    key : str
        For example ``"validation/main/loss"``.
    compare : callable
        ``compare(best, new)``: whether `new` is better.
    trigger
        The interval; see :func:`get_trigger`.
    """

    def __init__(
        self,
        key: str,
        compare: Callable[[float, float], bool],
        trigger: Any = (1, "epoch"),
    ) -> None:
        self.key = key
        self.best_value: float | None = None
        self._compare = compare
        self._interval = get_trigger(trigger)
        self._summary = DictSummary()

    def __call__(self, trainer: Trainer) -> bool:
        """Whether an interval ends here with the best average.

        Raises
        ------
        ValueError
            If the value was not observed in the interval.
        """
        observation = trainer.observation
        if self.key in observation:
            self._summary.add({self.key: observation[self.key]})
        if not self._interval(trainer):
            return False
        means, self._summary = self._summary.compute_mean(), DictSummary()
        if self.key not in means:
            known = ", ".join(sorted(observation)) or "nothing"
            message = (
                f"{type(self).__name__}: `key` {self.key!r} was not reported in the "
                f"interval; the last iteration reported {known}"
            )
            raise ValueError(message)
        if self.best_value is None or self._compare(self.best_value, means[self.key]):
            self.best_value = means[self.key]
            return True
        return False

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the best value and the running average."""
        self.best_value = serializer("best_value", self.best_value)
        self._summary.serialize(serializer["summary"])


class MinValueTrigger(BestValueTrigger):
    """Fires when the average of an observed value is the lowest yet.

    Parameters
    ----------
    key : str
    trigger
        The interval to average over.
    """

    def __init__(self, key: str, trigger: Any = (1, "epoch")) -> None:
        super().__init__(key, lambda best, new: new < best, trigger)


class MaxValueTrigger(BestValueTrigger):
    """Fires when the average of an observed value is the highest yet.

    Parameters
    ----------
    key : str
    trigger
        The interval to average over.
    """

    def __init__(self, key: str, trigger: Any = (1, "epoch")) -> None:
        super().__init__(key, lambda best, new: new > best, trigger)


def _interval(operation: str, argument: str, trigger: Any) -> tuple[float, str]:
    if isinstance(trigger, tuple | list) and len(trigger) == 2:
        return trigger[0], trigger[1]
    message = (
        f'{operation}: `{argument}` must be None, a pair such as (1, "epoch") or a '
        f"callable, got {trigger!r}"
    )
    raise TypeError(message)
