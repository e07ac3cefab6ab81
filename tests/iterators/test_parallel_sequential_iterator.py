from __future__ import annotations

import itertools
from collections import Counter

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.arrays import library_name, to_numpy
from vdcore.iterators import ParallelSequentialIterator
from vdcore.replay import recorded_by
from vdcore.serializers import load_npz, save_npz


def text(size):
    return numpy.arange(size, dtype=numpy.int32)


def take(iterator, count):
    """Windows one after the other, and the tokens after theirs; a row a stream."""
    windows = list(itertools.islice(iterator, count))
    return tuple(numpy.concatenate(field).T for field in zip(*windows, strict=True))


def test_streams_are_read_side_by_side():
    iterator = ParallelSequentialIterator(text(20), 3, length=2)
    x, t = take(iterator, 3)
    assert_array_equal(x, [range(6), range(6, 12), range(13, 19)])
    assert_array_equal(t, x + 1)
    assert (x.dtype, t.dtype) == ("int32", "int32")
    assert next(iterator)[0].shape == (2, 3)


def chainers_steps(size, batch_size, count):
    """As Chainer's iterator has it, which gives a step at a time."""
    offsets = [i * size // batch_size for i in range(batch_size)]
    return [[(offset + k) % size for offset in offsets] for k in range(count)]


@pytest.mark.parametrize(("size", "batch_size", "length"), [(20, 3, 2), (36, 5, 7)])
def test_offsets_and_order_are_chainers(size, batch_size, length):
    iterator = ParallelSequentialIterator(text(size), batch_size, length=length)
    x, t = take(iterator, 40)
    assert_array_equal(x.T, chainers_steps(size, batch_size, 40 * length))
    assert_array_equal(t, (x + 1) % size)


def test_counters_through_two_epochs():
    """Of ten tokens each window has six."""
    iterator = ParallelSequentialIterator(text(10), 2, length=3)
    rows = [(0, False, 0.0, 0.0)]
    for _ in itertools.islice(iterator, 4):
        rows.append(
            (
                iterator.epoch,
                iterator.is_new_epoch,
                iterator.previous_epoch_detail,
                iterator.epoch_detail,
            )
        )
    assert rows[1:] == [
        (0, False, 0.0, 0.6),
        (1, True, 0.6, 1.2),
        (1, False, 1.2, 1.8),
        (2, True, 1.8, 2.4),
    ]
    iterator.reset()
    assert (iterator.epoch, iterator.epoch_detail, iterator.is_new_epoch) == rows[0][:3]


@pytest.mark.parametrize("batch_size", range(1, 9))
@pytest.mark.parametrize("size", range(9, 20))
def test_one_epoch_predicts_each_token_once_but_for_the_border(size, batch_size):
    iterator = ParallelSequentialIterator(text(size), batch_size, False, length=2)
    x, t = take(iterator, None)
    predicted = Counter(t.ravel().tolist())
    assert set(predicted.values()) == {1}
    left_out = set(range(size)) - set(predicted)
    assert len(left_out) == size - batch_size * ((size - 1) // batch_size)
    assert {0} <= left_out <= {i * size // batch_size for i in range(batch_size)}
    assert_array_equal(t, x + 1)
    assert (iterator.epoch, iterator.epoch_detail, iterator.is_new_epoch) == (
        1,
        1,
        True,
    )
    with pytest.raises(StopIteration):
        next(iterator)
    iterator.reset()
    assert_array_equal(take(iterator, None)[1], t)


def test_the_last_window_of_one_epoch_is_shorter():
    iterator = ParallelSequentialIterator(text(12), 1, False, length=4)
    assert [len(x) for x, _ in iterator] == [4, 4, 3]


def test_resumes_where_it_was(tmp_path):
    iterator = ParallelSequentialIterator(text(50), 4, length=5)
    take(iterator, 3)
    save_npz(tmp_path / "state", iterator)
    other = ParallelSequentialIterator(text(50), 4, length=5)
    load_npz(tmp_path / "state", other)
    assert vars(other).keys() == vars(iterator).keys()
    for _ in range(8):
        for a, b in zip(next(iterator), next(other), strict=True):
            assert_array_equal(a, b)
        assert other.epoch_detail == iterator.epoch_detail
        assert other.previous_epoch_detail == iterator.previous_epoch_detail
        assert (other.epoch, other.is_new_epoch) == (
            iterator.epoch,
            iterator.is_new_epoch,
        )


def test_batches_are_made_where_the_text_is(tape_library):
    expected = take(ParallelSequentialIterator(text(30), 4, length=3), 5)
    dataset = tape_library.asarray(text(30))
    windows = itertools.islice(ParallelSequentialIterator(dataset, 4, length=3), 5)
    for k, (x, t) in enumerate(windows):
        assert library_name(type(x)) == library_name(type(dataset))
        assert_array_equal(to_numpy(x).T, expected[0][:, 3 * k : 3 * k + 3])
        assert_array_equal(to_numpy(t).T, expected[1][:, 3 * k : 3 * k + 3])


class Recording:
    """Keeps what a recorded step asks for, as a CUDA graph does."""

    def __init__(self):
        self.computed = []

    def live(self, compute, like):
        self.computed.append(compute)
        return compute()


def test_a_recorded_step_asks_for_the_indices_alone():
    iterator = ParallelSequentialIterator(text(30), 4, length=3)
    recording = Recording()
    with recorded_by(recording):
        x, _ = next(iterator)
    (compute,) = recording.computed
    again = compute()
    assert iterator.current_position == 6
    assert again.shape == (4 * 4,)
    assert_array_equal(again.reshape(4, 4)[:3], x + 3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (text(120), 4, True, 30),
            "`dataset` must have at least 121 tokens for 4 streams of windows of 30 "
            "tokens, got 120; take a smaller `batch_size` or `length`, or a",
        ),
        (
            (text(4), 4, False),
            "at least 5 tokens for 4 streams of predictions, got 4; take a smaller "
            "`batch_size`, or a longer text",
        ),
        ((text(0), 1, False), "at least 2 tokens for 1 streams .*, got 0"),
        ((text(9), 0), "`batch_size` must be positive, got 0"),
        ((text(9), 1, True, -1), "`length` must be positive, got -1"),
    ],
)
def test_what_does_not_fit_is_an_error(arguments, expected):
    with pytest.raises(ValueError, match=f"ParallelSequentialIterator: .*{expected}"):
        ParallelSequentialIterator(*arguments)


def test_the_shortest_texts():
    assert take(ParallelSequentialIterator(text(121), 4, length=30), 1)[0].size == 120
    assert take(ParallelSequentialIterator(text(5), 4, False), None)[0].size == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (([1, 2, 3], 1), "`dataset` must be an array of integers, .* got list"),
        ((text(9).reshape(3, 3), 1), r"got an array of shape \(3, 3\)"),
        ((numpy.ones(9), 1), "got one of float64"),
        ((text(9), 2.0), "`batch_size` must be an int, got float"),
        ((text(9), 2, True, True), "`length` must be an int, got bool"),
    ],
)
def test_what_is_of_another_type(arguments, expected):
    with pytest.raises(TypeError, match=expected):
        ParallelSequentialIterator(*arguments)
