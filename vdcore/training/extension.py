"""What a trainer calls after an iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vdcore.serialization import Serializer

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer

PRIORITY_WRITER = 300  # writes to the observation
PRIORITY_EDITOR = 200  # changes the observation, or sets values for what comes next
PRIORITY_READER = 100  # only reads


class Extension:
    """Base of extensions; each default may be overridden when one is added.

    Attributes
    ----------
    trigger
        When it is called; see :func:`vdcore.training.get_trigger`.
    priority : int
        Extensions of a higher priority are called first, those of one priority in the
        order in which they were added.
    name : str or None
        Under which the trainer knows it; by default its `default_name`.
    main_rank_only : bool
        Where several processes share a training, call it on rank 0 alone, because it
        writes or prints.
    """

    trigger: Any = (1, "iteration")
    priority = PRIORITY_READER
    name: str | None = None
    main_rank_only = False

    @property
    def default_name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    def __call__(self, trainer: Trainer) -> Any:
        """Do what it is there for."""
        message = f"{self.default_name}: __call__ is not defined for this extension"
        raise RuntimeError(message)  # as a link without `forward`

    def initialize(self, trainer: Trainer) -> None:
        """Called once before the first iteration, after a snapshot was loaded."""

    def finalize(self) -> None:
        """Called once when the loop ends, also by an error or Ctrl-C."""

    def serialize(self, serializer: Serializer) -> None:
        """Read or write what a resumed run needs."""


class FunctionExtension(Extension):
    """A function of the trainer as an extension."""

    def __init__(
        self,
        function: Callable[[Trainer], Any],
        *,
        trigger: Any = Extension.trigger,
        default_name: str | None = None,
        priority: int = PRIORITY_READER,
    ) -> None:
        self._function = function
        self._default_name = default_name
        self.trigger = trigger
        self.priority = priority

    @property
    def default_name(self) -> str:
        """Name of the function, unless another was given."""
        if self._default_name is not None:
            return self._default_name
        return getattr(self._function, "__name__", type(self._function).__name__)

    def __call__(self, trainer: Trainer) -> Any:
        """Call the function."""
        return self._function(trainer)


def make_extension(
    trigger: Any = Extension.trigger,
    default_name: str | None = None,
    priority: int = PRIORITY_READER,
) -> Callable[[Callable[[Trainer], Any]], FunctionExtension]:
    """Decorate a function of the trainer: make it an extension with these defaults.

    Examples
    --------
    >>> @make_extension(trigger=(1, "epoch"))
    ... def shout(trainer):
    ...     print(trainer.updater.epoch, "!")
    >>> shout.default_name
    'shout'
    """
    return lambda function: FunctionExtension(
        function, trigger=trigger, default_name=default_name, priority=priority
    )
