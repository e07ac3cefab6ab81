"""Averages of what a model reports on a validation set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vdcore.arrays import using_device
from vdcore.configuration import using_config
from vdcore.iterators import SerialIterator
from vdcore.link import Link
from vdcore.reporter import DictSummary, Reporter, report, report_scope
from vdcore.training.convert import batch_length, concat_examples
from vdcore.training.extension import PRIORITY_WRITER, Extension
from vdcore.training.recurrent_state import fresh_state
from vdcore.training.updater import as_arguments

if TYPE_CHECKING:
    from vdcore.training.communicator import Communicator
    from vdcore.training.trainer import Trainer


class Evaluator(Extension):
    """Runs a model over a data set in test mode and reports averages.

    The values get names such as ``"validation/main/loss"``; a `name` given to
    ``Trainer.extend`` takes the place of ``"validation"``.

    Parameters
    ----------
    iterator : SerialIterator
        With ``repeat=False``; begun anew for each evaluation.
    target : Link
        The model, whose reports are averaged.
    converter, device
        As of :class:`vdcore.training.StandardUpdater`.
    eval_hook : callable, optional
        Called with the evaluator before each evaluation.
    eval_func : callable, optional
        Called with the arrays of a batch; default `target`.
    communicator : Communicator, optional
        Of processes that each evaluate the model on a part of the data set; all get
        the averages over the whole. Its running statistics are averaged first.

    Raises
    ------
    ValueError
        If `iterator` repeats, so that an evaluation would never end.

    Notes
    -----
    A batch counts by its number of examples. Chainer counts a smaller last batch as
    much as the others, so that its accuracy is not that of the data set.

    The recurrent links of the model begin anew for an evaluation and carry their states
    through it; afterwards they are in those of the training again. (In Chainer it takes
    a copy of the model, and an `eval_hook` that resets it.)
    """

    trigger = (1, "epoch")
    priority = PRIORITY_WRITER
    default_name = "validation"

    def __init__(
        self,
        iterator: SerialIterator,
        target: Link,
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        eval_hook: Callable[[Evaluator], None] | None = None,
        eval_func: Callable[..., Any] | None = None,
        communicator: Communicator | None = None,
    ) -> None:
        if getattr(iterator, "repeat", False):
            message = (
                "Evaluator: `iterator` must end after one epoch, got one that repeats; "
                "pass repeat=False to it"
            )
            raise ValueError(message)
        self.iterator = iterator
        self.target = target
        self.converter = converter
        self.device = device
        self.eval_hook = eval_hook
        self.eval_func = eval_func
        self.communicator = communicator

    def __call__(self, trainer: Trainer | None = None) -> dict[str, float]:
        """Evaluate; return the averages by name, and report them.

        Without a trainer the names have no ``"validation/"``, as in Chainer.
        """
        prefix = f"{self.name}/" if self.name else ""
        reporter = Reporter()
        reporter.add_observers(f"{prefix}main", self.target.namedlinks())
        with reporter.scope({}):
            means = self.evaluate()
        report(means)
        return means

    def evaluate(self) -> dict[str, float]:
        """Averages of the values reported in one run over the data set."""
        if self.communicator is not None:
            self.communicator.allreduce_persistent(self.target)
        function = self.eval_func or self.target
        summary = DictSummary()
        self.iterator.reset()
        with (
            using_config("train", False),
            using_device(self.device),
            fresh_state(self.target),
        ):
            if self.eval_hook:
                self.eval_hook(self)
            for batch in self.iterator:
                observation: dict[str, Any] = {}
                with report_scope(observation):
                    args, kwargs = as_arguments(self.converter(batch, self.device))
                    function(*args, **kwargs)
                summary.add(observation, weight=batch_length(batch))
        if self.communicator is None:
            return summary.compute_mean()
        whole = DictSummary()
        for part in self.communicator.allgather_obj(summary):
            whole.merge(part)
        return whole.compute_mean()
