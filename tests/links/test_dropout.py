"""Dropout with a generator of its own."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import links as L
from vdcore import serialization
from vdcore.arrays import to_numpy

X = numpy.ones((30, 20), numpy.float32)


def test_values(tape_library):
    x = tape_library.asarray(X)
    link = L.Dropout(0.75)
    assert list(link.params()) == []
    assert set(numpy.unique(to_numpy(link(x)))) == {0, 4}
    with vdcore.using_config("train", False):
        assert link(x) is x
    assert L.Dropout().ratio == 0.5


def test_seeds():
    drawn = []
    for seed in (1, 1, 2):
        vdcore.seed(seed)
        drawn.append(L.Dropout()(X))
    numpy.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    given = (L.Dropout(rng=numpy.random.default_rng(7))(X) for _ in range(2))
    numpy.testing.assert_array_equal(*given)


def test_layers_draw_by_themselves():
    first, second = L.Dropout(), L.Dropout()
    assert (first(X) != second(X)).any()


def test_resumes_bit_for_bit():
    model = vdcore.Sequential(L.Dropout(), L.Dropout(0.2))
    model(X)
    state = serialization.DictionarySerializer()
    model.serialize_training_state(state)
    expected = [model(X) for _ in range(2)]
    other = vdcore.Sequential(L.Dropout(), L.Dropout(0.2))
    other.serialize_training_state(serialization.NpzDeserializer(state.entries))
    for y in expected:
        numpy.testing.assert_array_equal(other(X), y)


@pytest.mark.parametrize("ratio", [1, -0.5])
def test_errors(ratio):
    with pytest.raises(ValueError, match=r"Dropout: `ratio` must lie in \[0, 1\)"):
        L.Dropout(ratio)
