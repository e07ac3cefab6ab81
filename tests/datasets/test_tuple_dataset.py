from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.datasets import TupleDataset, split_dataset, split_dataset_random


@pytest.fixture
def dataset():
    images = numpy.arange(30.0, dtype=numpy.float32).reshape(10, 3)
    return TupleDataset(images, numpy.arange(10, dtype=numpy.int32))


def test_an_example_is_a_tuple_of_rows(dataset):
    image, label = dataset[4]
    assert_array_equal(image, [12, 13, 14])
    assert label == 4
    assert_array_equal(dataset[-1][0], [27, 28, 29])
    assert_array_equal(dataset[numpy.int64(2)][0], [6, 7, 8])
    assert len(dataset) == 10
    assert [int(label) for _, label in dataset] == list(range(10))


def test_a_slice_is_a_dataset_that_shares_memory(dataset):
    part = dataset[2:8:2]
    assert type(part) is TupleDataset
    assert_array_equal(part.arrays[1], [2, 4, 6])
    assert numpy.shares_memory(part.arrays[0], dataset.arrays[0])


def test_an_index_array_selects_examples(dataset):
    assert_array_equal(dataset[numpy.asarray([7, 7, 0])].arrays[1], [7, 7, 0])
    assert_array_equal(dataset[dataset.arrays[1] > 7].arrays[1], [8, 9])


def test_take_gathers_rows_and_keeps_dtypes(dataset):
    images, labels = dataset.take([9, 0])
    assert_array_equal(images, [[27, 28, 29], [0, 1, 2]])
    assert_array_equal(labels, [9, 0])
    assert images.dtype == numpy.float32
    assert labels.dtype == numpy.int32


def test_take_of_another_array_library():
    xp = pytest.importorskip("array_api_strict", reason="needs array-api-strict")
    dataset = TupleDataset(xp.reshape(xp.arange(6), (3, 2)))
    (rows,) = dataset.take(xp.asarray([2, 0]))
    assert xp.all(rows == xp.asarray([[4, 5], [0, 1]]))


def test_an_index_out_of_range_is_an_error(dataset):
    with pytest.raises(IndexError, match="10"):
        dataset[10]
    with pytest.raises(IndexError, match="10"):
        dataset.take([10])


def test_arrays_must_be_arrays_of_one_length():
    with pytest.raises(ValueError, match="at least one array"):
        TupleDataset()
    with pytest.raises(ValueError, match=r"one length, got \[3, 2\]"):
        TupleDataset(numpy.ones(3), numpy.ones(2))
    with pytest.raises(
        TypeError, match=r"argument 1 .* got \[1, 2, 3\]; numpy.asarray"
    ):
        TupleDataset(numpy.ones(3), [1, 2, 3])
    with pytest.raises(TypeError, match="argument 0 must be an array with one row"):
        TupleDataset(numpy.asarray(3.0))


def test_split_in_order_gives_views(dataset):
    first, second = split_dataset(dataset, 7)
    assert_array_equal(first.arrays[1], range(7))
    assert_array_equal(second.arrays[1], [7, 8, 9])
    assert numpy.shares_memory(second.arrays[0], dataset.arrays[0])


def test_split_by_an_order(dataset):
    first, second = split_dataset(dataset, 2, numpy.arange(10)[::-1])
    assert_array_equal(first.arrays[1], [9, 8])
    assert_array_equal(second.arrays[1], range(7, -1, -1))


def test_random_split_is_a_partition_that_the_seed_decides(dataset):
    first, second = split_dataset_random(dataset, 6, seed=1)
    labels = numpy.concatenate([first.arrays[1], second.arrays[1]])
    assert_array_equal(numpy.sort(labels), range(10))
    assert_array_equal(first.arrays[0][:, 0], 3 * first.arrays[1])
    again, _ = split_dataset_random(dataset, 6, seed=1)
    assert_array_equal(again.arrays[1], first.arrays[1])
    other, _ = split_dataset_random(dataset, 6, seed=2)
    assert not numpy.array_equal(other.arrays[1], first.arrays[1])


def test_random_split_without_a_seed_follows_the_configuration(dataset):
    def split():
        from vdcore.configuration import using_config

        with using_config("rng", numpy.random.default_rng(3)):
            return split_dataset_random(dataset, 5)[0].arrays[1]

    assert_array_equal(split(), split())


def test_split_of_a_plain_array():
    first, second = split_dataset(numpy.arange(5), 2)
    assert_array_equal(first, [0, 1])
    assert_array_equal(second, [2, 3, 4])


@pytest.mark.parametrize("split_at", [0, 10, -1])
def test_no_part_may_be_empty(dataset, split_at):
    with pytest.raises(ValueError, match=f"1 to 9 of the 10 examples, got {split_at}"):
        split_dataset(dataset, split_at)


def test_split_refuses_lists_and_wrong_orders(dataset):
    with pytest.raises(TypeError, match="got list; make a TupleDataset"):
        split_dataset([1, 2, 3], 1)
    with pytest.raises(ValueError, match="each of the 10 examples, got 9"):
        split_dataset(dataset, 2, numpy.arange(9))
