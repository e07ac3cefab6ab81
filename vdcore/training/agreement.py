"""What processes that share a training tell each other in every iteration."""

from __future__ import annotations

from typing import NamedTuple

from vdcore.optimizers import NonFiniteLossError
from vdcore.training.communicator import Communicator


class StepMessage(NamedTuple):
    """How the forward and backward pass of one rank went.

    Attributes
    ----------
    examples : int
        In its batch.
    failure : str or None
        What is wrong with its loss.
    epoch_detail : float
        How far it is.
    names : tuple of str
        Of the values it has reported.
    """

    examples: int
    failure: str | None
    epoch_detail: float
    names: tuple[str, ...]


def agree(communicator: Communicator, own: StepMessage) -> float:
    """Exchange messages; return the weight of this rank's batch in the whole.

    It returns, or raises, on all ranks alike: none goes on to wait for another.

    Raises
    ------
    NonFiniteLossError
        If a loss is not finite; the text says on which rank.
    ValueError
        If the ranks are at different points of their epochs, where triggers would fire
        on some alone, or report different values, which cannot be averaged.
    """
    messages = [StepMessage(*m) for m in communicator.allgather_obj(tuple(own))]
    failures = [f"rank {i}: {m.failure}" for i, m in enumerate(messages) if m.failure]
    if failures:
        raise NonFiniteLossError("; ".join(failures))
    first = messages[0]
    for rank, other in enumerate(messages):
        if other.epoch_detail != first.epoch_detail:
            message = (
                "ParallelUpdater: all ranks must be at the same point of their epochs, "
                f"got {first.epoch_detail:g} on rank 0 and {other.epoch_detail:g} on "
                f"rank {rank}; give them equally many examples, as scatter_dataset "
                "does, and one batch size"
            )
            raise ValueError(message)
        if other.names != first.names:
            message = (
                "ParallelUpdater: all ranks must report the same values, to be "
                f"averaged, got {_listed(first.names)} on rank 0 and "
                f"{_listed(other.names)} on rank {rank}; report on all or none"
            )
            raise ValueError(message)
    return own.examples / sum(message.examples for message in messages)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "none"
