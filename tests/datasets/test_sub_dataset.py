from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.datasets import SubDataset, TupleDataset, split_dataset
from vdcore.iterators import SerialIterator

X = numpy.arange(10.0).reshape(5, 2)
LABELS = numpy.arange(5)


def test_examples_are_those_at_the_indices():
    part = SubDataset(TupleDataset(X, LABELS), [4, 0, 0])
    assert len(part) == 3
    assert_array_equal(part[0][0], X[4])
    assert [part[i][1] for i in range(3)] == [4, 0, 0]
    assert part[-1][1] == 0
    assert len(part[1:]) == 2
    assert part[numpy.asarray([2, 0])][1][1] == 4
    with pytest.raises(IndexError):
        part[3]


def test_nothing_is_copied():
    dataset = TupleDataset(X.copy(), LABELS)
    part = SubDataset(dataset, [3, 1])
    dataset.arrays[0][3] = 77
    assert_array_equal(part[0][0], [77, 77])


@pytest.mark.parametrize("dataset", [TupleDataset(X), X])
def test_batches_are_taken_as_arrays(dataset):
    iterator = SerialIterator(SubDataset(dataset, [4, 2, 3]), 2, shuffle=False)
    (batch,) = next(iterator)
    assert_array_equal(batch, X[[4, 2]])


def test_batches_of_another_sequence_are_lists():
    iterator = SerialIterator(SubDataset("abcde", [4, 2, 3]), 2, shuffle=False)
    assert next(iterator) == ["e", "c"]


def test_it_can_be_split():
    first, second = split_dataset(SubDataset(X, [4, 2, 3]), 1)
    assert (len(first), len(second)) == (1, 2)
    assert_array_equal(second[0], X[2])
