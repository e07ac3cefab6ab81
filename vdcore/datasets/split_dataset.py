"""Cutting a data set in two, in order or at random."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import configuration


def split_dataset(dataset: Any, split_at: int, order: Any = None) -> tuple[Any, Any]:
    """Return the first `split_at` examples of `dataset`, and the others.

    Parameters
    ----------
    dataset : TupleDataset or array
    split_at : int
        Examples in the first part; neither part may be empty.
    order : integer array, shape (n,), optional
        A permutation to put the examples in before the cut.

    Returns
    -------
    tuple
        Two of what `dataset` is. Without `order` they share its memory, with it they
        are copies, so a batch is taken from either as fast as from the whole.

    Raises
    ------
    TypeError
        If `dataset` cannot be indexed by an array, as a list cannot.
    ValueError
        If `split_at` leaves a part empty or `order` has another length.
    """
    size = len(dataset)
    if not hasattr(dataset, "take"):
        message = (
            "split_dataset: `dataset` must be a TupleDataset or an array, got "
            f"{type(dataset).__name__}; make a TupleDataset of its arrays"
        )
        raise TypeError(message)
    if not 0 < split_at < size:
        message = (
            f"split_dataset: the first part must have 1 to {size - 1} of the {size} "
            f"examples, got {split_at}"
        )
        raise ValueError(message)
    if order is None:
        return dataset[:split_at], dataset[split_at:]
    if len(order) != size:
        message = (
            f"split_dataset: `order` must have one entry for each of the {size} "
            f"examples, got {len(order)}"
        )
        raise ValueError(message)
    return dataset[order[:split_at]], dataset[order[split_at:]]


def split_dataset_random(
    dataset: Any, first_size: int, seed: int | None = None
) -> tuple[Any, Any]:
    """Cut `dataset` at random into `first_size` examples and the others.

    Parameters
    ----------
    dataset : TupleDataset or array
    first_size : int
    seed : int, optional
        The same seed gives the same parts. Default: drawn from ``config.rng``, so that
        :func:`vdcore.seed` decides.

    Returns
    -------
    tuple
        Two of what `dataset` is; see :func:`split_dataset`.

    Examples
    --------
    >>> first, second = split_dataset_random(numpy.arange(5), 3, seed=0)
    >>> sorted([*first.tolist(), *second.tolist()])
    [0, 1, 2, 3, 4]
    """
    rng = configuration.spawn_rng() if seed is None else numpy.random.default_rng(seed)
    return split_dataset(dataset, first_size, rng.permutation(len(dataset)))
