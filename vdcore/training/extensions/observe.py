"""Values that are put into the observation from outside the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vdcore.reporter import report
from vdcore.training.extension import PRIORITY_WRITER, FunctionExtension

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


def observe_value(
    observation_key: str, target_func: Callable[[Trainer], Any]
) -> FunctionExtension:
    """Extension that reports ``target_func(trainer)`` each epoch.

    Parameters
    ----------
    observation_key : str
    target_func : callable
        Returns a number or an array of shape ().
    """
    return FunctionExtension(
        lambda trainer: report({observation_key: target_func(trainer)}),
        trigger=(1, "epoch"),
        default_name=f"observe_{observation_key}",
        priority=PRIORITY_WRITER,
    )


def observe_lr(
    optimizer_name: str = "main", observation_key: str = "lr"
) -> FunctionExtension:
    """Extension that reports the learning rate of an optimizer each epoch.

    Parameters
    ----------
    optimizer_name, observation_key : str
    """

    def learning_rate(trainer: Trainer) -> Any:
        optimizer: Any = trainer.updater.get_optimizer(optimizer_name)
        return optimizer.lr

    return observe_value(observation_key, learning_rate)
