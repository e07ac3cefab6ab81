"""The parts of a data set for processes that share a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from vdcore.configuration import spawn_rng
from vdcore.datasets.sub_dataset import SubDataset

if TYPE_CHECKING:
    from vdcore.training.communicator import Communicator


def scatter_dataset(
    dataset: Any,
    communicator: Communicator,
    shuffle: bool = False,
    seed: int | None = None,
    *,
    force_equal_length: bool = True,
) -> SubDataset:
    """Return this process's part of a data set, which all processes have loaded.

    Rank r of n takes the examples r, r + n, r + 2n, ... In order, batches of b examples
    on each rank are together the batches of n b examples of a single process.

    Parameters
    ----------
    dataset
        The same on all ranks. Nothing of it is sent or copied.
    communicator : Communicator
    shuffle : bool
        Put the examples in a random order first, the same on all ranks.
    seed : int, optional
        Of that order. Default: drawn from ``config.rng`` of rank 0.
    force_equal_length : bool
        Repeat examples, fewer than there are processes, so that all parts have the
        same length, as training needs. False for evaluation, where none may count
        twice.

    Raises
    ------
    ValueError
        On all ranks, if the data set has not the same length on all, or fewer examples
        than there are processes.
    """
    count = communicator.size
    lengths = communicator.allgather_obj(len(dataset))
    if len(set(lengths)) > 1:
        message = (
            "scatter_dataset: `dataset` must be the same on all ranks, got lengths "
            f"{lengths}; load it on each, from the same files"
        )
        raise ValueError(message)
    size = lengths[0]
    if size < count:
        message = (
            "scatter_dataset: `dataset` must have an example for each of the "
            f"{count} processes, got {size}; start fewer"
        )
        raise ValueError(message)
    order = numpy.arange(size)
    if shuffle:
        own = int(spawn_rng().integers(2**63)) if seed is None else seed
        order = numpy.random.default_rng(communicator.bcast_obj(own)).permutation(size)
    if force_equal_length:
        order = numpy.resize(order, -(-size // count) * count)  # goes on from its start
    return SubDataset(dataset, order[communicator.rank :: count])
