"""A data set made of arrays of the same length."""

from __future__ import annotations

import operator
from typing import Any

from vdcore.arrays import Array, array_namespace, asarray_like, is_array, to_device


class TupleDataset:
    """Arrays whose i-th rows together are the i-th example.

    Parameters
    ----------
    *arrays : array, shape (n, ...)
        For example images and labels, all of one length.

    Raises
    ------
    TypeError
        If one of them is not an array.
    ValueError
        If there is none, or their lengths differ.

    Notes
    -----
    As Chainer's, except that a slice gives a TupleDataset (views, nothing is copied)
    and not a list of tuples, that an index array gives one too, and that :meth:`take`
    gathers a batch without a Python object for each example.

    Examples
    --------
    >>> import numpy
    >>> dataset = TupleDataset(numpy.asarray([[0.0], [0.5], [1.0]]), numpy.arange(3))
    >>> dataset[1]
    (array([0.5]), np.int64(1))
    >>> len(dataset[1:])
    2
    >>> dataset.take([2, 0])
    (array([[1.],
           [0.]]), array([2, 0]))
    """

    def __init__(self, *arrays: Array) -> None:
        if not arrays:
            message = "TupleDataset: expected at least one array, got none"
            raise ValueError(message)
        for position, array in enumerate(arrays):
            if not is_array(array) or not array.shape:
                message = (
                    f"TupleDataset: argument {position} must be an array with one row "
                    f"an example, got {array!r:.60}; numpy.asarray makes one of a list"
                )
                raise TypeError(message)
        lengths = [array.shape[0] for array in arrays]
        if len(set(lengths)) > 1:
            message = f"TupleDataset: arrays must have one length, got {lengths}"
            raise ValueError(message)
        self.arrays = arrays

    def __len__(self) -> int:
        return self.arrays[0].shape[0]

    def __getitem__(self, index: Any) -> Any:
        """Return one example for an integer, a TupleDataset for a slice or an array."""
        rows = tuple(array[index] for array in self.arrays)
        try:
            operator.index(index)
        except TypeError:
            return TupleDataset(*rows)
        return rows

    def to_device(self, device: Any) -> TupleDataset:
        """Return the same examples on a device; see :func:`vdcore.arrays.to_device`.

        Data that fits on a GPU is best put there once: taking a batch then copies only
        indices, and a step of training can be recorded
        (:class:`vdcore.training.StandardUpdater`, `graph`).
        """
        return TupleDataset(*(to_device(array, device) for array in self.arrays))

    def take(self, indices: Any) -> tuple[Array, ...]:
        """Gather the rows `indices` of every array: one batch as a tuple of arrays."""
        return tuple(
            array_namespace(array).take(array, asarray_like(indices, array), axis=0)
            for array in self.arrays
        )
