"""Batches taken in the order of the data set, or in a new random order each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like, is_array
from vdcore.configuration import spawn_rng
from vdcore.replay import live
from vdcore.serialization import Serializer, generator_state, restore_generator


class Batch(tuple):
    """A batch that was taken as whole arrays: one array for each field of an example.

    Other batches are lists of examples.
    """

    __slots__ = ()


class SerialIterator:
    """Iterates over a data set in batches.

    Parameters
    ----------
    dataset
        An array (or anything with ``take(indices)``, such as
        :class:`vdcore.datasets.TupleDataset`), from which batches are taken as whole
        arrays; or any sequence of examples, from which they are lists.
    batch_size : int
        Examples a batch.
    repeat : bool
        Begin again after each epoch; the batch at the border is filled up with the
        first examples of the next epoch. Otherwise the iteration stops after one
        epoch, whose last batch may be smaller.
    shuffle : bool, optional
        Take a new random order each epoch. Default: as `repeat`.
    rng : numpy.random.Generator, optional
        Source of the order. Default a child of ``config.rng``; Chainer's iterator
        uses NumPy's global state, which a snapshot does not hold.
    transform : callable, optional
        ``transform(array)`` makes of the first array of each batch, such as the images,
        the one that takes its place; see :class:`vdcore.datasets.RandomCropFlip`. Its
        state is part of a snapshot if it has a method ``serialize``. The data set must
        be an array, or have ``take``.

    Attributes
    ----------
    epoch : int
        Epochs completed.
    is_new_epoch : bool
        Whether the last batch completed one.
    previous_epoch_detail : float
        `epoch_detail` before the last batch.

    Raises
    ------
    ValueError
        If the data set is empty, or a batch is larger than a repeated data set.
    TypeError
        If the data set is a tuple of arrays, `batch_size` no int, or there is a
        `transform` for batches that are lists.

    Examples
    --------
    >>> iterator = SerialIterator(numpy.arange(5), 2, repeat=False)
    >>> [batch[0].tolist() for batch in iterator]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        repeat: bool = True,
        shuffle: bool | None = None,
        rng: numpy.random.Generator | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int):
            message = (
                "SerialIterator: `batch_size` must be an int, "
                f"got {type(batch_size).__name__}"
            )
            raise TypeError(message)
        if batch_size < 1:
            message = f"SerialIterator: `batch_size` must be positive, got {batch_size}"
            raise ValueError(message)
        if isinstance(dataset, tuple) and any(is_array(x) and x.shape for x in dataset):
            message = (
                "SerialIterator: `dataset` must be a data set, got a tuple of arrays, "
                "of which each would be one example; pass TupleDataset(*arrays)"
            )
            raise TypeError(message)
        takes_arrays = is_array(dataset) or hasattr(dataset, "take")
        if transform is not None and not takes_arrays:
            message = (
                "SerialIterator: with a `transform`, `dataset` must be an array or "
                f"have `take`, got {type(dataset).__name__}; pass TupleDataset(*arrays)"
            )
            raise TypeError(message)
        size = dataset.shape[0] if is_array(dataset) else len(dataset)
        if size == 0:
            message = "SerialIterator: `dataset` must have at least one example, got 0"
            raise ValueError(message)
        if repeat and batch_size > size:
            message = (
                "SerialIterator: `batch_size` must be at most the number of examples, "
                f"{size}, when the data set is repeated; got {batch_size}"
            )
            raise ValueError(message)
        self._order: numpy.ndarray
        self.dataset = dataset
        self._size = size
        self.batch_size = batch_size
        self.repeat = repeat
        shuffle = repeat if shuffle is None else shuffle
        self._rng = (rng or spawn_rng()) if shuffle else None
        self.transform = transform
        self.reset()

    def reset(self) -> None:
        """Go back to the beginning; a shuffled iterator takes a new order."""
        self.epoch = 0
        self.is_new_epoch = False
        self.current_position = 0
        self.previous_epoch_detail = 0.0
        self._shuffle()

    @property
    def epoch_detail(self) -> float:
        """Epochs done, with the fraction of the current one."""
        return self.epoch + self.current_position / self._size

    def __iter__(self) -> SerialIterator:
        return self

    def __next__(self) -> Batch | list[Any]:
        """Take the next batch.

        Raises
        ------
        StopIteration
            After one epoch, if the iterator does not repeat.
        """
        if not self.repeat and self.epoch > 0:
            raise StopIteration
        batch = self._take(live(self._next_indices))
        if self.transform is not None:
            batch = Batch([self.transform(batch[0]), *batch[1:]])
        return batch

    def _next_indices(self) -> numpy.ndarray:
        self.previous_epoch_detail = self.epoch_detail
        end = self.current_position + self.batch_size
        indices = self._order[self.current_position : end]
        self.is_new_epoch = end >= self._size
        if self.is_new_epoch:
            self.epoch += 1
            self._shuffle()
            end = end - self._size if self.repeat else 0
            indices = numpy.concatenate([indices, self._order[:end]])
        self.current_position = end
        return indices

    next = __next__

    def serialize(self, serializer: Serializer) -> None:
        """Read or write position, order, generator and the transform's state."""
        self.current_position = serializer("current_position", self.current_position)
        self.epoch = serializer("epoch", self.epoch)
        self.is_new_epoch = serializer("is_new_epoch", self.is_new_epoch)
        self.previous_epoch_detail = serializer(
            "previous_epoch_detail", self.previous_epoch_detail
        )
        if self._rng is not None:
            self._order = serializer("order", self._order)
            state = serializer("rng", generator_state(self._rng))
            if not serializer.is_writer:
                restore_generator(self._rng, state)
        serialize_transform = getattr(self.transform, "serialize", None)
        if serialize_transform is not None:
            serialize_transform(serializer["transform"])

    def _shuffle(self) -> None:
        if self._rng is None:
            self._order = numpy.arange(self._size)
        else:
            self._order = self._rng.permutation(self._size)

    def _take(self, indices: Array) -> Batch | list[Any]:
        dataset = self.dataset
        if is_array(dataset):
            indices = asarray_like(indices, dataset)
            return Batch([array_namespace(dataset).take(dataset, indices, axis=0)])
        if hasattr(dataset, "take"):
            return Batch(dataset.take(indices))
        return [dataset[int(index)] for index in indices]
