from __future__ import annotations

import itertools

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.datasets import TupleDataset
from vdcore.iterators import Batch, SerialIterator
from vdcore.serialization import DictionarySerializer, NpzDeserializer
from vdcore.serializers import FileFormatError, load_npz, save_npz


def take(iterator, count):
    return [batch[0].tolist() for batch in itertools.islice(iterator, count)]


def test_one_epoch_in_order():
    iterator = SerialIterator(numpy.arange(5), 2, repeat=False)
    assert take(iterator, 9) == [[0, 1], [2, 3], [4]]
    with pytest.raises(StopIteration):
        next(iterator)
    iterator.reset()
    assert take(iterator, 1) == [[0, 1]]


def test_a_repeated_iterator_fills_up_the_batch_at_the_border():
    iterator = SerialIterator(numpy.arange(5), 2, shuffle=False)
    assert take(iterator, 5) == [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4]]


def test_counters_through_two_epochs():
    iterator = SerialIterator(numpy.arange(5), 2, shuffle=False)
    assert (iterator.epoch_detail, iterator.previous_epoch_detail) == (0, 0)
    rows = []
    for _ in itertools.islice(iterator, 5):
        rows.append(
            (
                iterator.epoch,
                iterator.is_new_epoch,
                iterator.previous_epoch_detail,
                iterator.epoch_detail,
            )
        )
    assert rows == [
        (0, False, 0.0, 0.4),
        (0, False, 0.4, 0.8),
        (1, True, 0.8, 1.2),
        (1, False, 1.2, 1.6),
        (2, True, 1.6, 2.0),
    ]


def test_a_batch_as_large_as_the_data_set_is_an_epoch():
    iterator = SerialIterator(numpy.arange(3), 3, shuffle=False)
    assert take(iterator, 2) == [[0, 1, 2], [0, 1, 2]]
    assert (iterator.epoch, iterator.is_new_epoch, iterator.epoch_detail) == (
        2,
        True,
        2,
    )


def test_a_shuffled_epoch_has_each_example_once_in_an_order_of_its_own():
    iterator = SerialIterator(numpy.arange(30), 10, rng=numpy.random.default_rng(3))
    first, second = (numpy.concatenate(take(iterator, 3)).tolist() for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    assert first != sorted(first)


def test_a_seed_makes_the_order_repeatable():
    orders = [
        take(SerialIterator(numpy.arange(30), 7, rng=numpy.random.default_rng(3)), 9)
        for _ in range(2)
    ]
    assert orders[0] == orders[1]


def test_batches_of_arrays_are_arrays():
    images = numpy.arange(12, dtype=numpy.float32).reshape(4, 3)
    dataset = TupleDataset(images, numpy.asarray([0, 1, 0, 1], dtype=numpy.int32))
    batch = next(SerialIterator(dataset, 3, shuffle=False))
    assert type(batch) is Batch
    assert_array_equal(batch[0], images[:3])
    assert_array_equal(batch[1], [0, 1, 0])
    assert (batch[0].dtype, batch[1].dtype) == (numpy.float32, numpy.int32)


def test_batches_of_another_sequence_are_lists_of_examples():
    dataset = [(1, "a"), (2, "b"), (3, "c")]
    batches = list(SerialIterator(dataset, 2, repeat=False))
    assert batches == [dataset[:2], dataset[2:]]


def test_batches_keep_the_library_of_the_data_set(tape_library):
    dataset = tape_library.asarray(numpy.arange(6, dtype=numpy.float32).reshape(3, 2))
    (batch,) = next(SerialIterator(dataset, 2, shuffle=False))
    assert type(batch) is type(dataset)
    assert batch.shape == (2, 2)
    assert float(batch[1, 1]) == 3


@pytest.mark.parametrize("after", [1, 2, 3, 7])
def test_a_restored_iterator_goes_on_exactly(after):
    original = SerialIterator(numpy.arange(11), 4, rng=numpy.random.default_rng(0))
    take(original, after)
    writer = DictionarySerializer()
    original.serialize(writer)
    restored = SerialIterator(numpy.arange(11), 4, rng=numpy.random.default_rng(9))
    restored.serialize(NpzDeserializer(writer.entries))
    assert restored.is_new_epoch == original.is_new_epoch
    assert restored.previous_epoch_detail == original.previous_epoch_detail
    assert take(restored, 12) == take(original, 12)


def test_a_file_of_another_data_set_is_refused(tmp_path):
    save_npz(tmp_path / "file", SerialIterator(numpy.arange(11), 4))
    with pytest.raises(
        FileFormatError, match=r"'order' must be .*\(12,\), got .*\(11,\)"
    ):
        load_npz(tmp_path / "file", SerialIterator(numpy.arange(12), 4))
    with pytest.raises(FileFormatError, match=r"nothing takes its entry 'order'"):
        load_npz(tmp_path / "file", SerialIterator(numpy.arange(11), 4, shuffle=False))


@pytest.mark.parametrize(
    ("size", "batch_size", "error", "text"),
    [
        (5, 0, ValueError, "`batch_size` must be positive, got 0"),
        (5, 2.0, TypeError, "`batch_size` must be an int, got float"),
        (5, True, TypeError, "`batch_size` must be an int, got bool"),
        (0, 1, ValueError, "`dataset` must have at least one example"),
        (5, 6, ValueError, "at most the number of examples, 5, .* got 6"),
    ],
)
def test_bad_arguments(size, batch_size, error, text):
    with pytest.raises(error, match=f"SerialIterator: .*{text}"):
        SerialIterator(numpy.zeros(size), batch_size)


def test_a_tuple_of_arrays_is_refused():
    arrays = numpy.zeros((4, 3)), numpy.arange(4)
    expected = (
        "^SerialIterator: `dataset` must be a data set, got a tuple of arrays, of "
        r"which each would be one example; pass TupleDataset\(\*arrays\)$"
    )
    with pytest.raises(TypeError, match=expected):
        SerialIterator(arrays, 2)
    examples = list(zip(*arrays, strict=True))
    for dataset in (examples, tuple(examples), tuple(numpy.arange(4))):
        assert len(next(SerialIterator(dataset, 3))) == 3


def test_transform_replaces_the_first_array_of_each_batch():
    x, t = numpy.arange(10.0).reshape(5, 2), numpy.arange(5)
    dataset = TupleDataset(x, t)
    iterator = SerialIterator(dataset, 2, False, transform=lambda x: -x)
    batches = list(iterator)
    assert all(type(batch) is Batch for batch in batches)
    assert_array_equal(numpy.concatenate([batch[0] for batch in batches]), -x)
    assert_array_equal(numpy.concatenate([batch[1] for batch in batches]), t)
    (batch,) = next(SerialIterator(x, 2, False, transform=lambda x: -x))
    assert_array_equal(batch, -x[:2])
    assert_array_equal(dataset.arrays[0], numpy.arange(10.0).reshape(5, 2))


def test_state_of_the_transform_is_part_of_a_snapshot(tmp_path):
    class Counting:
        count = 0

        def __call__(self, x):
            self.count += 1
            return x + self.count

        def serialize(self, serializer):
            self.count = serializer("count", self.count)

    original, restored = (
        SerialIterator(numpy.zeros(6), 2, transform=Counting()) for _ in range(2)
    )
    take(original, 5)
    save_npz(tmp_path / "file", original)
    load_npz(tmp_path / "file", restored)
    assert restored.transform.count == 5
    assert take(restored, 1) == take(original, 1) == [[6, 6]]
    with pytest.raises(FileFormatError, match="nothing takes its entry 'transform/co"):
        load_npz(tmp_path / "file", SerialIterator(numpy.zeros(6), 2))


def test_transform_needs_batches_of_arrays():
    expected = r"`dataset` must be an array or have `take`, got list; pass TupleDataset"
    with pytest.raises(TypeError, match=expected):
        SerialIterator([(1, 2), (3, 4)], 1, transform=lambda x: x)
