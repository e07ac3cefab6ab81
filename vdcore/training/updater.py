"""One iteration of training: take a batch, update the parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from vdcore.arrays import using_device
from vdcore.iterators import SerialIterator
from vdcore.link import Link
from vdcore.optimizers import NonFiniteLossError, Optimizer
from vdcore.reporter import report, retract
from vdcore.serialization import Serializer
from vdcore.training.convert import concat_examples
from vdcore.training.diagnosis import locate_non_finite
from vdcore.training.recurrent_state import restoring_state
from vdcore.training.repeated_step import RepeatedStep
from vdcore.training.statistics import restoring_statistics

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer

NON_FINITE = ("raise", "skip")
CHECK_INTERVAL = 100  # iterations between looks at the losses of a GPU


class StandardUpdater:
    """Takes batches from an iterator and updates a model by an optimizer.

    Parameters
    ----------
    iterator : SerialIterator or dict of them
        A dictionary must have ``"main"``, which is what an epoch is counted by.
    optimizer : Optimizer or dict of them
        Likewise; :meth:`update_core` uses ``"main"``.
    converter : callable
        ``converter(batch, device)`` makes arrays of a batch.
    device
        Where batches go, and models at once; see :func:`vdcore.arrays.to_device`.
    loss_func : callable, optional
        Called with the arrays of a batch; returns the loss. Default: the model.
    non_finite : {"raise", "skip"}
        What to do when the loss is NaN or infinite: raise an error that says where it
        comes from (on a GPU up to 100 iterations later, in which no parameter changes,
        for to look at each loss would mean to wait for it); or leave the parameters
        alone, warn once, count the batch in `skipped`, and report nothing of it. With
        "skip" each loss is looked at, and each iteration reports ``skipped``, 0 or 1,
        so that a log shows the fraction of skipped batches.

    graph : bool
        Let a GPU repeat the whole step as a CUDA graph, which spares the host's time:
        most of that of a small network. The data set must be on the GPU. Whatever in a
        model, loss function or hook is no array and changes from step to step must be
        taken by :func:`vdcore.replay.live`; see there.

    Attributes
    ----------
    iteration : int
        Batches taken.
    skipped : int
        Those of them that were skipped.
    """

    def __init__(
        self,
        iterator: SerialIterator | dict[str, SerialIterator],
        optimizer: Optimizer | dict[str, Optimizer],
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        loss_func: Callable[..., Any] | None = None,
        non_finite: str = "raise",
        graph: bool = False,
    ) -> None:
        if non_finite not in NON_FINITE:
            message = (
                f"StandardUpdater: `non_finite` must be one of {NON_FINITE}, "
                f"got {non_finite!r}"
            )
            raise ValueError(message)
        self._iterators = iterator if isinstance(iterator, dict) else {"main": iterator}
        self._optimizers = (
            optimizer if isinstance(optimizer, dict) else {"main": optimizer}
        )
        for name in self._optimizers:
            target = self._target(name)
            if device is not None:
                target.to_device(device)
        self.converter = converter
        self.device = device
        self.loss_func = loss_func
        self.non_finite = non_finite
        self.graph = graph
        self._step = self.update_core
        if graph:
            self._step = self._repeated_step()
        self.iteration = 0
        self.skipped = 0

    def get_iterator(self, name: str = "main") -> SerialIterator:
        """Return the iterator of a name."""
        return self._iterators[name]

    def get_optimizer(self, name: str = "main") -> Optimizer:
        """Return the optimizer of a name."""
        return self._optimizers[name]

    def get_all_optimizers(self) -> dict[str, Optimizer]:
        """All optimizers by name."""
        return dict(self._optimizers)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.get_iterator().epoch

    @property
    def epoch_detail(self) -> float:
        """Epochs done, with the fraction of the current one."""
        return self.get_iterator().epoch_detail

    @property
    def previous_epoch_detail(self) -> float:
        """`epoch_detail` before the last iteration; 0 before the first."""
        return self.get_iterator().previous_epoch_detail

    @property
    def is_new_epoch(self) -> bool:
        """Whether the last batch completed an epoch."""
        return self.get_iterator().is_new_epoch

    def connect_trainer(self, trainer: Trainer) -> None:
        """Let the models report by the names of their optimizers."""
        for name in self._optimizers:
            trainer.reporter.add_observers(name, self._target(name).namedlinks())

    def update(self) -> None:
        """Do one iteration.

        Raises
        ------
        MemoryError
            If the memory, of a GPU for example, does not suffice for the batch.
        """
        try:
            with using_device(self.device):
                self._step()
        except MemoryError as error:
            size = getattr(self.get_iterator(), "batch_size", "so many")
            message = (
                f"iteration {self.iteration + 1}: there is not enough memory for a "
                f"step with a batch of {size} examples; take a smaller batch size. "
                f"{error}"
            )
            raise MemoryError(message) from error
        self.iteration += 1
        if self.is_new_epoch:
            for optimizer in self._optimizers.values():
                optimizer.new_epoch()
        if self.is_new_epoch or self.iteration % CHECK_INTERVAL == 0:
            self.check_finite()

    def check_finite(self) -> None:
        """Wait for a GPU, and raise if a loss since the last check was not finite.

        Raises
        ------
        NonFiniteLossError
        """
        with using_device(self.device):
            for optimizer in self._optimizers.values():
                try:
                    optimizer.check_finite()
                except NonFiniteLossError as error:
                    message = f"by iteration {self.iteration}: {error}"
                    raise NonFiniteLossError(message) from error

    def update_core(self) -> None:
        """Update the model on the next batch; override it for another procedure.

        Raises
        ------
        NonFiniteLossError
            If the loss is NaN or infinite, unless `non_finite` is "skip".
        """
        arrays = self.converter(next(self.get_iterator()), self.device)
        args, kwargs = as_arguments(arrays)
        target = self._target("main")
        lossfun = self.loss_func or target
        optimizer, may_skip = self.get_optimizer(), self.non_finite == "skip"
        try:
            with (
                restoring_state(target),
                restoring_statistics(target) if may_skip else nullcontext(),
            ):
                optimizer.update(lossfun, *args, **kwargs)
                if may_skip:
                    optimizer.check_finite()
        except NonFiniteLossError as error:
            if not may_skip:
                where = locate_non_finite(target, lossfun, args, kwargs)
                message = f"iteration {self.iteration + 1}: {where}. {error}"
                raise NonFiniteLossError(message) from error
            self._skip(error)
            return
        if may_skip:
            report({"skipped": 0})

    def serialize(self, serializer: Serializer) -> None:
        """Read or write iterators, models, optimizers and counts."""
        if serializer.is_writer:
            self.check_finite()
        for name, iterator in self._iterators.items():
            iterator.serialize(serializer[f"iterator:{name}"])
        for name, optimizer in self._optimizers.items():
            self._target(name).serialize(serializer[f"model:{name}"])
            optimizer.serialize(serializer[f"optimizer:{name}"])
        self.iteration = serializer("iteration", self.iteration)
        self.skipped = serializer("skipped", self.skipped)

    def _repeated_step(self) -> RepeatedStep:
        if self.non_finite == "skip":
            message = (
                'StandardUpdater: `graph` cannot go with `non_finite` = "skip", which '
                "looks at each loss on the host; leave one of them out"
            )
            raise ValueError(message)
        return RepeatedStep(
            self.update_core, self._target("main"), self.get_optimizer()
        )

    def _target(self, name: str) -> Link:
        target = self._optimizers[name].target
        if target is None:
            message = (
                f"StandardUpdater: optimizer {name!r} has no target; "
                "call optimizer.setup(model) first"
            )
            raise RuntimeError(message)
        return target

    def _skip(self, error: NonFiniteLossError) -> None:
        if self.skipped == 0:
            message = (
                f"iteration {self.iteration + 1}: the batch is skipped, as will be all "
                f'others like it (`non_finite` = "skip"). {error}'
            )
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        self.skipped += 1
        retract()
        report({"skipped": 1})


def as_arguments(arrays: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments that a converted batch stands for."""
    if isinstance(arrays, dict):
        return (), arrays
    return (arrays if isinstance(arrays, tuple) else (arrays,)), {}
