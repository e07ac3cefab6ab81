"""One iteration of a training that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from vdcore.arrays import Array, array_namespace, asarray_like, using_device
from vdcore.configuration import config, using_config
from vdcore.iterators import SerialIterator
from vdcore.link import Link
from vdcore.optimizers import NonFiniteLossError, Optimizer
from vdcore.optimizers.loss_guard import LossGuard
from vdcore.optimizers.optimizer import compute_gradients
from vdcore.reporter import report, reported
from vdcore.serialization import Keeper, Serializer
from vdcore.training.agreement import StepMessage, agree
from vdcore.training.communicator import (
    Communicator,
    trained_parameters,
)
from vdcore.training.convert import batch_length, concat_examples
from vdcore.training.diagnosis import locate_non_finite
from vdcore.training.rank_streams import RankStreams, generator_of_rank
from vdcore.training.recurrent_state import fresh_state, restoring_state
from vdcore.training.statistics import restoring_statistics
from vdcore.training.updater import StandardUpdater, as_arguments

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class ParallelUpdater(StandardUpdater):
    """Updates one model on several processes, each with batches of its own.

    Every process runs the same script on its part of the data
    (:func:`vdcore.datasets.scatter_dataset`). An iteration is one of a
    :class:`StandardUpdater` whose batch is all of theirs together: gradients are
    averaged by examples, so that each example counts the same, and the KL term, which
    is the same on all ranks, once. All ranks hold the same weights, bit for bit.

    Parameters
    ----------
    iterator, optimizer, converter, device, loss_func, non_finite
        As of :class:`StandardUpdater`; each process gives its own. With NCCL, `device`
        is ``communicator.intra_rank``. A loss that is not finite on one rank makes all
        of them raise, or skip the batch.
    communicator : Communicator
        From :func:`create_communicator`.

    Raises
    ------
    ValueError
        If the models differ; in :meth:`update`, if the ranks are not at the same point
        of their epochs or do not report the same values.

    Notes
    -----
    Of rank 0 are the first weights (those of the others are overwritten) and the
    streams of random numbers that a single process would have. On the other ranks
    every generator that a snapshot holds, of links, iterators and their transforms,
    goes on with a stream of its own, and so does ``config.rng`` inside the loss.

    What the model reports is averaged too. Batch normalisation takes mean and variance
    of each rank's own batch, as torch's and ChainerMN's does by default; its running
    statistics are averaged for evaluations and snapshots
    (:meth:`Communicator.allreduce_persistent`).

    In the trainer, extensions that write or print are called on rank 0 alone; all
    ranks add the same ones. A snapshot, written by rank 0, holds what the others need
    to continue too: as many processes, no more and no fewer, can load it.
    """

    def __init__(
        self,
        iterator: SerialIterator | dict[str, SerialIterator],
        optimizer: Optimizer | dict[str, Optimizer],
        communicator: Communicator,
        converter: Callable[..., Any] = concat_examples,
        device: Any = None,
        loss_func: Callable[..., Any] | None = None,
        non_finite: str = "raise",
    ) -> None:
        super().__init__(iterator, optimizer, converter, device, loss_func, non_finite)
        self.communicator = communicator
        self._serialize_own(RankStreams(communicator.rank))
        self._rng = generator_of_rank(config.rng, communicator.rank)
        if communicator.rank:
            for each in self._iterators.values():
                each.reset()  # to a first order of its own
        self._own_guard = LossGuard()
        self._is_broadcast = False
        targets = map(self._target, self._optimizers)
        if all(p.is_initialized for target in targets for p in target.params()):
            self._broadcast()

    def connect_trainer(self, trainer: Trainer) -> None:
        """Let the models report, and rank 0 alone write and print."""
        super().connect_trainer(trainer)
        trainer.is_main_rank = self.communicator.rank == 0

    def update_core(self) -> None:
        """Update the model on the next batches of all ranks together.

        Raises
        ------
        NonFiniteLossError
            On all ranks, if the loss is NaN or infinite on one, unless `non_finite` is
            "skip".
        ValueError
            See the class.
        """
        if self.communicator.size == 1:
            super().update_core()
            return
        batch = next(self.get_iterator())
        args, kwargs = as_arguments(self.converter(batch, self.device))
        target = self._target("main")
        lossfun = self.loss_func or target
        if not self._is_broadcast:
            with using_config("train", False), fresh_state(target):
                lossfun(*args, **kwargs)  # which makes the parameters
            self._broadcast()
        may_skip = self.non_finite == "skip"
        try:
            with (
                restoring_state(target),
                restoring_statistics(target) if may_skip else nullcontext(),
            ):
                loss, failure = self._compute_gradients(target, lossfun, args, kwargs)
                weight = agree(
                    self.communicator,
                    StepMessage(
                        batch_length(batch),
                        failure,
                        self.epoch_detail,
                        tuple(reported()),
                    ),
                )
                optimizer = self.get_optimizer()
                optimizer.watch(self._average(target, loss, weight))
                optimizer.update()
                if may_skip:
                    self.check_finite()
        except NonFiniteLossError as error:
            if not may_skip:
                message = f"iteration {self.iteration + 1}: {error}"
                raise NonFiniteLossError(message) from error
            self._skip(error)
            return
        if may_skip:
            report({"skipped": 0})

    def check_finite(self) -> None:
        """Wait for a GPU; raise, on all ranks, if a loss of one was not finite.

        Raises
        ------
        NonFiniteLossError
        """
        with using_device(self.device):
            in_vain = self._own_guard.check()
            try:
                super().check_finite()
            except NonFiniteLossError as error:
                found = self.communicator.allgather_obj(in_vain)
                ranks = [str(rank) for rank, count in enumerate(found) if count]
                message = f"on rank {' and '.join(ranks)}, {error}"
                raise NonFiniteLossError(message) from error

    def serialize(self, serializer: Serializer) -> None:
        """Read or write what all ranks share, and what each has of its own.

        All ranks must call it. To write, rank 0's serializer is the one that counts.

        Raises
        ------
        ValueError
            If what is read is of another number of processes.
        """
        size = self.communicator.size
        saved = serializer("processes", size)
        if saved != size:
            message = (
                f"it is a snapshot of a training by {saved} processes, this one is by "
                f"{size}; start {saved}, or load the model alone, by "
                'prefix="updater/model:main/"'
            )
            raise ValueError(message)
        if serializer.is_writer:
            self.check_finite()
        for name, optimizer in self._optimizers.items():
            target = self._target(name)
            if serializer.is_writer:
                self.communicator.allreduce_persistent(target)
            target.serialize(serializer[f"model:{name}"])
            optimizer.serialize(serializer[f"optimizer:{name}"])
        self.iteration = serializer("iteration", self.iteration)
        self.skipped = serializer("skipped", self.skipped)
        self._serialize_ranks(serializer)

    def _serialize_ranks(self, serializer: Serializer) -> None:
        keeper = Keeper()
        self._serialize_own(keeper)
        if serializer.is_writer:
            gathered = self.communicator.allgather_obj(keeper.values)
        else:  # the others' entries are asked for too: nothing in the file is foreign
            gathered = [dict.fromkeys(keeper.values)] * self.communicator.size
        for rank, values in enumerate(gathered):
            place = serializer[f"rank:{rank}"]
            if rank == self.communicator.rank and not serializer.is_writer:
                self._serialize_own(place)
                continue
            for name, value in values.items():
                place(name, value)

    def _serialize_own(self, serializer: Serializer) -> None:
        """Exchange what differs between the ranks: their places in the data, and noise.

        It is a part of the state of the links that is the same on all, too.
        """
        for name, iterator in self._iterators.items():
            iterator.serialize(serializer[f"iterator:{name}"])
        for name in self._optimizers:
            part = serializer[f"training_state:{name}"]
            self._target(name).serialize_training_state(part)

    def _broadcast(self) -> None:
        for name in self._optimizers:
            self.communicator.bcast_data(self._target(name))
        self._is_broadcast = True

    def _compute_gradients(
        self,
        target: Link,
        lossfun: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Array | None, str | None]:
        """Loss and gradients of this rank's batch, or what is wrong with the loss."""
        with using_config("rng", self._rng):
            try:
                loss = compute_gradients(target, lossfun, *args, **kwargs)
            except NonFiniteLossError as error:
                if self.non_finite == "skip":
                    return None, str(error)
                where = locate_non_finite(target, lossfun, args, kwargs)
                return None, f"{where}. {error}"
        self._own_guard.watch(loss)
        return loss, None

    def _average(self, target: Link, loss: Any, weight: float) -> Array:
        """Average gradients and what was reported; return the average of the losses."""
        parameters = trained_parameters(target)
        arrays = [parameter.grad for parameter in parameters]
        observation = reported()
        like = arrays[0]
        arrays += [_scalar_like(value, like) for value in (loss, *observation.values())]
        means = iter(self.communicator.allreduce_mean(arrays, weight))
        for parameter in parameters:
            parameter.grad = next(means)
        loss = next(means)
        report(dict(zip(observation, means, strict=True)))
        return loss


def _scalar_like(value: Any, like: Array) -> Array:
    xp = array_namespace(like)
    return xp.astype(asarray_like(value, like), like.dtype)
