"""An attribute of the optimizer that decays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vdcore.optimizers import Optimizer
from vdcore.serialization import Serializer
from vdcore.training.extension import PRIORITY_EDITOR, Extension
from vdcore.training.extensions.linear_shift import find_optimizer

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class ExponentialShift(Extension):
    """Multiplies an attribute of an optimizer by a rate, each time it is called.

    ``trainer.extend(ExponentialShift("lr", 0.5), trigger=(10, "epoch"))`` halves the
    learning rate every ten epochs.

    Parameters
    ----------
    attr : str
    rate : float
    init : float, optional
        First value; default the optimizer's own.
    target : float, optional
        Where to stop.
    optimizer : Optimizer, optional
        Default the trainer's ``"main"``.
    """

    priority = PRIORITY_EDITOR

    def __init__(
        self,
        attr: str,
        rate: float,
        init: float | None = None,
        target: float | None = None,
        optimizer: Optimizer | None = None,
    ) -> None:
        if not rate > 0:
            message = f"ExponentialShift: `rate` must be positive, got {rate!r}"
            raise ValueError(message)
        self._attr = attr
        self._rate = rate
        self._init = init
        self._target = target
        self._optimizer = optimizer
        self._calls = 0

    def initialize(self, trainer: Trainer) -> None:
        """Take the first value from the optimizer, and set the present one."""
        if self._init is None:
            self._init = getattr(self._find(trainer), self._attr)
        self._set(trainer)

    def __call__(self, trainer: Trainer) -> None:
        """Set the next value."""
        self._calls += 1
        self._set(trainer)

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the number of calls and the first value."""
        self._calls = serializer("calls", self._calls)
        self._init = serializer("init", self._init)

    def _find(self, trainer: Trainer) -> Optimizer:
        return find_optimizer("ExponentialShift", trainer, self._optimizer, self._attr)

    def _set(self, trainer: Trainer) -> None:
        assert self._init is not None
        value = self._init * self._rate**self._calls
        if self._target is not None:
            growing = (self._target - self._init) > 0
            value = min(value, self._target) if growing else max(value, self._target)
        setattr(self._find(trainer), self._attr, value)
