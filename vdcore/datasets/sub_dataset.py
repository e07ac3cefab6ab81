"""Some examples of a data set, by their numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy

from vdcore.arrays import array_namespace, asarray_like, is_array


class SubDataset:
    """The examples of `dataset` at `indices`, in that order; nothing is copied.

    Batches are taken from it as from the whole: as arrays from a
    :class:`vdcore.datasets.TupleDataset` or an array, example by example from another
    sequence.

    Parameters
    ----------
    dataset
        An array, anything with ``take(indices)``, or a sequence of examples.
    indices : sequence of int
        Numbers of examples; may repeat.

    Examples
    --------
    >>> part = SubDataset(["a", "b", "c", "d"], [3, 0])
    >>> len(part), part[0]
    (2, 'd')
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | numpy.ndarray) -> None:
        self.dataset = dataset
        self.indices = numpy.asarray(indices)
        if is_array(dataset) or hasattr(dataset, "take"):
            self.take = self._take  # what an iterator looks for

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        """Return one example for an integer, a SubDataset for a slice or an array."""
        try:
            return self.dataset[int(self.indices[operator.index(index)])]
        except TypeError:
            return SubDataset(self.dataset, self.indices[index])

    def _take(self, indices: Any) -> tuple[Any, ...]:
        """Gather examples: one batch as a tuple of arrays."""
        chosen = self.indices[indices]
        if not is_array(self.dataset):
            return self.dataset.take(chosen)
        chosen = asarray_like(chosen, self.dataset)
        return (array_namespace(self.dataset).take(self.dataset, chosen, axis=0),)
