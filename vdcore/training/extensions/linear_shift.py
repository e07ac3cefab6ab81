"""An attribute of the optimizer that moves along a ramp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdcore.optimizers import Optimizer
from vdcore.training.extension import PRIORITY_EDITOR, Extension
from vdcore.training.triggers import check_unit, elapsed

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class LinearShift(Extension):
    """Moves an attribute of an optimizer linearly between two values.

    The value follows from the training time alone, other than in Chainer, where calls
    are counted: a resumed run has the very same values.

    Parameters
    ----------
    attr : str
        For example ``"alpha"`` of Adam.
    value_range : pair of float
        The value until the first and from the last point of `time_range`.
    time_range : pair of float
        In `unit`.
    optimizer : Optimizer, optional
        Default the trainer's ``"main"``.
    unit : {"iteration", "epoch"}
    """

    priority = PRIORITY_EDITOR

    def __init__(
        self,
        attr: str,
        value_range: tuple[float, float],
        time_range: tuple[float, float],
        optimizer: Optimizer | None = None,
        unit: str = "iteration",
    ) -> None:
        check_unit("LinearShift", unit)
        check_time_range("LinearShift", time_range)
        self._attr = attr
        self._value_range = value_range
        self._time_range = time_range
        self._optimizer = optimizer
        self._unit = unit

    def initialize(self, trainer: Trainer) -> None:
        """Set the value of the first iteration."""
        self(trainer)

    def __call__(self, trainer: Trainer) -> None:
        """Set the value of the next iteration."""
        optimizer = find_optimizer("LinearShift", trainer, self._optimizer, self._attr)
        time = elapsed(trainer.updater, self._unit)
        setattr(optimizer, self._attr, ramp(time, self._time_range, self._value_range))


def ramp(
    time: float, time_range: tuple[float, float], value_range: tuple[float, float]
) -> float:
    """Linear interpolation, constant outside; from the end of the range its value.

    Examples
    --------
    >>> [ramp(time, (5, 15), (0.0, 1.0)) for time in (0, 5, 10, 15, 20)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    (start, end), (first, last) = time_range, value_range
    if time >= end:
        return last
    if time <= start:
        return first
    return first + (last - first) * (time - start) / (end - start)


def check_time_range(operation: str, time_range: tuple[float, float]) -> None:
    """Raise ValueError unless a range of training time is in order."""
    start, end = time_range
    if not start <= end:
        message = (
            f"{operation}: the start of the ramp must not be after its end, "
            f"got {start} and {end}"
        )
        raise ValueError(message)


def find_optimizer(
    operation: str, trainer: Trainer, optimizer: Optimizer | None, attr: str
) -> Optimizer:
    """Return the optimizer that has the attribute: the one given, or ``"main"``."""
    optimizer = optimizer or trainer.updater.get_optimizer("main")
    if not hasattr(optimizer, attr):
        known = ", ".join(optimizer.hyperparameters)
        message = (
            f"{operation}: `attr` must be an attribute of {type(optimizer).__name__}, "
            f"one of {known}; got {attr!r}"
        )
        raise ValueError(message)
    return optimizer
