from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.iterators import Batch
from vdcore.training import concat_examples
from vdcore.training.convert import batch_length


def test_whole_arrays_pass_through():
    x, t = numpy.zeros((3, 2), numpy.float32), numpy.arange(3)
    assert concat_examples(Batch((x, t))) == (x, t)
    assert concat_examples(Batch((x,)), "cpu") is x
    assert batch_length(Batch((x, t))) == 3


def test_examples_are_stacked_field_by_field():
    batch = [(numpy.full(2, i, numpy.float32), numpy.int32(i)) for i in range(3)]
    x, t = concat_examples(batch)
    assert_array_equal(x, [[0, 0], [1, 1], [2, 2]])
    assert_array_equal(t, [0, 1, 2])
    assert (x.dtype, t.dtype) == (numpy.float32, numpy.int32)
    assert batch_length(batch) == 3


def test_dictionaries_and_plain_values():
    batch = concat_examples([{"x": 1.5, "t": 0}, {"t": 1, "x": 2.5}])
    assert_array_equal(batch["x"], [1.5, 2.5])
    assert_array_equal(batch["t"], [0, 1])
    assert_array_equal(concat_examples([3, 4]), [3, 4])


def test_arrays_keep_their_library(tape_library):
    rows = [tape_library.asarray(numpy.full(2, i, numpy.float32)) for i in range(3)]
    stacked = concat_examples(rows)
    assert type(stacked) is type(rows[0])
    assert stacked.shape == (3, 2)


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ([], "at least one example, got none"),
        ([(1, 2), (1,)], "agree in their lengths, 2 in the first, got 1 in number 1"),
        ([{"x": 1}, {"y": 1}], r"agree in their keys, \['x'\] in the first"),
        ([numpy.zeros(2), numpy.zeros(3)], r"one shape, got \(2,\) and \(3,\)"),
        ([(1, 2), [1, 2]], "agree in their lengths"),
    ],
)
def test_examples_that_do_not_match(batch, text):
    with pytest.raises(ValueError, match=f"concat_examples: .*{text}"):
        concat_examples(batch)
