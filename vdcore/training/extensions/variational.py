"""Schedules of sparse variational dropout."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from vdcore.training.extension import PRIORITY_EDITOR, Extension
from vdcore.training.extensions.linear_shift import check_time_range, ramp
from vdcore.training.triggers import check_unit, elapsed

if TYPE_CHECKING:
    from vdcore.links import VariationalDropoutChain
    from vdcore.training.trainer import Trainer


class KLWarmUp(Extension):
    """Lets the coefficient of the KL term grow linearly from 0.

    Parameters
    ----------
    model : VariationalDropoutChain
        Built with ``warm_up=0``, or it would change its `kl_coef` itself.
    start, end : float
        In `unit`: 0 until `start`, `value` from `end` on. (5, 20) epochs is the
        schedule of Molchanov, Ashukha, Vetrov (2017) in the authors' code.
    unit : {"iteration", "epoch"}
    value : float
        Coefficient from `end` on; 1 is the evidence lower bound.
    stop : float, optional
        In `unit`: from then on the coefficient is 0 again, so that the weights that
        masks have left are fine-tuned for the data alone; see :class:`FreezeNoise`.

    Notes
    -----
    The coefficient follows from the training time alone, so that a resumed run has
    the very same values.
    """

    priority = PRIORITY_EDITOR

    def __init__(
        self,
        model: VariationalDropoutChain,
        start: float,
        end: float,
        unit: str = "epoch",
        value: float = 1.0,
        stop: float | None = None,
    ) -> None:
        check_unit("KLWarmUp", unit)
        check_time_range("KLWarmUp", (start, end))
        if model.warm_up:
            message = (
                "KLWarmUp: `model` must leave its kl_coef alone, it has "
                f"warm_up={model.warm_up!r}; build it with warm_up=0"
            )
            raise ValueError(message)
        self._model = model
        self._time_range = (start, end)
        self._unit = unit
        if stop is not None and stop < end:
            message = f"KLWarmUp: `stop` must not lie before `end`, {end}; got {stop!r}"
            raise ValueError(message)
        self._value = value
        self._stop = math.inf if stop is None else stop

    def initialize(self, trainer: Trainer) -> None:
        """Set the coefficient of the first iteration."""
        self(trainer)

    def __call__(self, trainer: Trainer) -> None:
        """Set the coefficient of the next iteration."""
        time = elapsed(trainer.updater, self._unit)
        grown = ramp(time, self._time_range, (0.0, self._value))
        self._model.kl_coef = grown if time < self._stop else 0.0


class _FromEpoch(Extension, ABC):
    """Changes a model once, before the first iteration of an epoch or later."""

    priority = PRIORITY_EDITOR

    def __init__(self, model: VariationalDropoutChain, epoch: float) -> None:
        if not epoch >= 0:
            message = (
                f"{type(self).__name__}: `epoch` must not be negative, got {epoch!r}"
            )
            raise ValueError(message)
        self._model = model
        self._epoch = epoch

    def initialize(self, trainer: Trainer) -> None:
        """Change the model before the first iteration, if it is time."""
        self(trainer)

    def __call__(self, trainer: Trainer) -> None:
        """Change the model before the next iteration, if it is time."""
        if elapsed(trainer.updater, "epoch") >= self._epoch:
            self._change(self._model)

    @abstractmethod
    def _change(self, model: VariationalDropoutChain) -> None: ...


class FreezeNoise(_FromEpoch):
    """Leaves the log variances as they are, from an epoch on.

    With masks, and without the KL term, the weights left are then fitted to the data
    under the noise that they had learnt to bear, which goes on regularising them. Were
    the noise trained without its KL term, it would vanish.

    Parameters
    ----------
    model : VariationalDropoutChain
    epoch : float
    """

    def _change(self, model: VariationalDropoutChain) -> None:
        model.set_noise_trainable(False)


class MaskFrom(_FromEpoch):
    """Masks noise weights in training from an epoch on.

    A masked weight has no gradient and does not come back: the later the masks, the
    lower the error; the earlier, the sparser the model.

    Parameters
    ----------
    model : VariationalDropoutChain
    epoch : float
        0: from the first iteration on.
    """

    def _change(self, model: VariationalDropoutChain) -> None:
        model.set_mask_in_training(True)
