"""Windows of a long sequence that is read in many places at once."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like, is_array
from vdcore.iterators.serial_iterator import Batch
from vdcore.replay import live
from vdcore.serialization import Serializer


class ParallelSequentialIterator:
    """Cuts a sequence into streams that are read side by side, a window at a time.

    Stream `i` begins at token ``i * len(dataset) // batch_size``, as in Chainer's
    example. A batch is a window of all streams: tokens, and for each the one after it,
    which is to be predicted. The next batch goes on where the last one ended, so that a
    model which keeps its state reads whole streams.

    Parameters
    ----------
    dataset : array of integers, shape (tokens,)
        On a GPU, batches are made there.
    batch_size : int
        Number of streams.
    repeat : bool
        Go on for ever: each stream goes on with the text of the next one, the last
        one with the beginning, and all windows have the same length. Otherwise the
        iteration stops after one epoch, whose last window may be shorter.
    length : int
        Tokens of a stream in a window: how far truncated backpropagation through time
        goes back. (Chainer's iterator gives single tokens.)

    Attributes
    ----------
    epoch : int
        Epochs completed: so many times were as many tokens predicted as there are.
    is_new_epoch : bool
        Whether the last batch completed one.
    previous_epoch_detail : float
        `epoch_detail` before the last batch.

    Raises
    ------
    ValueError
        If the text is too short: for one window of each stream if it is repeated, and
        otherwise for one prediction of each.
    TypeError
        If `dataset` is no array of integers, or `batch_size` or `length` no int.

    Notes
    -----
    With ``repeat=False`` no token is predicted twice, and all are but
    ``n - B * ((n - 1) // B)`` of `n`, for `B` streams: at least one, at most `B`. These
    are the first token of the text, which nothing comes before, and the first ones of
    some later streams, because streams are of equal length. With `B` = 1 it is the
    first token alone.

    Examples
    --------
    >>> iterator = ParallelSequentialIterator(numpy.arange(9), 2, False, length=3)
    >>> x, t = next(iterator)
    >>> x.T.tolist(), t.T.tolist()
    ([[0, 1, 2], [4, 5, 6]], [[1, 2, 3], [5, 6, 7]])
    >>> x, t = next(iterator)
    >>> x.T.tolist(), t.T.tolist()
    ([[3], [7]], [[4], [8]])
    """

    def __init__(
        self, dataset: Array, batch_size: int, repeat: bool = True, length: int = 35
    ) -> None:
        _check_sequence(dataset)
        _check_count("batch_size", batch_size)
        _check_count("length", length)
        size = dataset.shape[0]
        needed = batch_size * (length if repeat else 1) + 1
        if size < needed:
            what = f"windows of {length} tokens" if repeat else "predictions"
            message = (
                f"ParallelSequentialIterator: `dataset` must have at least {needed} "
                f"tokens for {batch_size} streams of {what}, got {size}; take a "
                f"smaller `batch_size`{' or `length`' if repeat else ''}, or a longer "
                "text"
            )
            raise ValueError(message)
        self.dataset = dataset
        self.batch_size = batch_size
        self.repeat = repeat
        self.length = length
        self._offsets = numpy.arange(batch_size) * size // batch_size
        # An epoch's tokens, and its steps if it is the only one.
        self._size = size if repeat else (size - 1) // batch_size * batch_size
        self._end = None if repeat else self._size // batch_size
        self.reset()

    def reset(self) -> None:
        """Go back to the beginning."""
        self.current_position = 0  # tokens read of each stream
        self.epoch = 0
        self.is_new_epoch = False
        self.previous_epoch_detail = 0.0

    @property
    def epoch_detail(self) -> float:
        """Epochs done, with the fraction of the current one."""
        return self.current_position * self.batch_size / self._size

    def __iter__(self) -> ParallelSequentialIterator:
        return self

    def __next__(self) -> Batch:
        """Take the next window.

        Returns
        -------
        Batch of two arrays, shape (length, batch_size)
            Tokens, and the ones after them, of the dtype of `dataset`.

        Raises
        ------
        StopIteration
            After one epoch, if the iterator does not repeat.
        """
        if self.current_position == self._end:
            raise StopIteration
        indices = asarray_like(live(self._next_indices), self.dataset)
        xp = array_namespace(self.dataset)
        tokens = xp.take(self.dataset, indices, axis=0)
        tokens = xp.reshape(tokens, (-1, self.batch_size))
        return Batch([tokens[:-1, :], tokens[1:, :]])

    def _next_indices(self) -> numpy.ndarray:
        """Places in the text of a window's tokens, and of one more a stream."""
        self.previous_epoch_detail = self.epoch_detail
        start, end = self.current_position, self.current_position + self.length
        if self._end is not None:
            end = min(end, self._end)
        self.current_position = end
        epoch = end * self.batch_size // self._size
        self.is_new_epoch = epoch > self.epoch
        self.epoch = epoch
        places = numpy.arange(start, end + 1)[:, None] + self._offsets
        return places.ravel() % self.dataset.shape[0]

    next = __next__

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the position."""
        self.current_position = serializer("current_position", self.current_position)
        self.epoch = serializer("epoch", self.epoch)
        self.is_new_epoch = serializer("is_new_epoch", self.is_new_epoch)
        self.previous_epoch_detail = serializer(
            "previous_epoch_detail", self.previous_epoch_detail
        )


def _check_sequence(dataset: Any) -> None:
    if not is_array(dataset):
        got = type(dataset).__name__
    elif len(dataset.shape) != 1:
        got = f"an array of shape {tuple(dataset.shape)}"
    elif not array_namespace(dataset).isdtype(dataset.dtype, "integral"):
        got = f"one of {dataset.dtype}"
    else:
        return
    message = (
        "ParallelSequentialIterator: `dataset` must be an array of integers, shape "
        f"(tokens,), got {got}; see get_ptb_words for one"
    )
    raise TypeError(message)


def _check_count(argument: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        message = (
            f"ParallelSequentialIterator: `{argument}` must be an int, "
            f"got {type(value).__name__}"
        )
        raise TypeError(message)
    if value < 1:
        message = (
            f"ParallelSequentialIterator: `{argument}` must be positive, got {value}"
        )
        raise ValueError(message)
