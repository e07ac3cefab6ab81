"""The fully connected layer."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import links as L
from vdcore import serializers
from vdcore.arrays import array_namespace, to_numpy


def test_shapes_and_first_values():
    layer = L.Linear(400, 100)
    assert layer.in_size == 400
    assert layer.W.array.shape == (100, 400)
    assert layer.W.array.dtype == numpy.float32
    assert layer.W.array.var() == pytest.approx(1 / 400, rel=5 * math.sqrt(2 / 40_000))
    assert layer.b.array.tolist() == [0] * 100


def test_value():
    layer = L.Linear(2, 1, initialW=numpy.asarray([[2.0, -1.0]]), initial_bias=0.5)
    layer.b.array = layer.b.array.astype(float)
    assert layer(numpy.asarray([[3.0, 4.0]])).tolist() == [[2.5]]


def test_initial_values_of_every_kind():
    assert L.Linear(2, 3, initialW=1).W.array.tolist() == [[1, 1]] * 3
    bias = numpy.asarray([1, 2, 3], numpy.float32)
    assert L.Linear(2, 3, initial_bias=bias).b.array.tolist() == [1, 2, 3]
    zero = vdcore.initializers.Constant(0)
    assert not L.Linear(2, 3, initialW=zero).W.array.any()


def test_bias_has_the_dtype_of_the_weights():
    layer = L.Linear(2, 3, initialW=numpy.ones((3, 2)), initial_bias=1)
    assert layer(numpy.ones((1, 2))).dtype == numpy.float64
    half = vdcore.initializers.LeCunNormal(dtype=numpy.float16)
    assert L.Linear(2, 3, initialW=half).b.array.dtype == numpy.float16


def test_without_bias():
    layer = L.Linear(2, 3, nobias=True)
    assert layer.b is None
    assert [path for path, _ in layer.namedparams()] == ["/W"]
    x = numpy.ones((1, 2), numpy.float32)
    numpy.testing.assert_array_equal(layer(x), x @ layer.W.array.T)


@pytest.mark.parametrize("arguments", [(None, 3), (3,)])
def test_input_size_from_the_first_batch(tape_library, arguments):
    layer = L.Linear(*arguments)
    assert layer.in_size is None
    assert layer.out_size == 3
    layer.to_cpu()  # has no array to move
    if layer.b is not None:
        layer.b.array = tape_library.asarray(layer.b.array)
    x = tape_library.asarray(numpy.ones((5, 2, 4), numpy.float32))
    assert tuple(layer(x).shape) == (5, 3)
    assert layer.in_size == 8
    assert type(layer.W.array) is type(x)
    assert array_namespace(layer.W.array) is tape_library.xp


@pytest.mark.parametrize("in_size", [3, None])
def test_seeds(in_size):
    weights = []
    for seed in (1, 1, 2):
        vdcore.seed(seed)
        layer = L.Linear(in_size, 3)
        layer(numpy.ones((1, 3), numpy.float32))
        weights.append(layer.W.array)
    numpy.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).all()


@pytest.mark.parametrize("in_size", [4, None])
def test_round_trip(tmp_path, in_size):
    layer, other = L.Linear(4, 3), L.Linear(in_size, 3)
    serializers.save_npz(tmp_path / "l.npz", layer)
    serializers.load_npz(tmp_path / "l.npz", other)
    numpy.testing.assert_array_equal(layer.W.array, other.W.array)
    assert other.in_size == 4


@pytest.mark.parametrize("size", [0, -1, 2.0, "3"])
def test_bad_sizes(size):
    with pytest.raises(
        ValueError, match="Linear: `out_size` must be a positive integer"
    ):
        L.Linear(3, size)
    with pytest.raises(
        ValueError, match="Linear: `in_size` must be a positive integer"
    ):
        L.Linear(size, 3)


def test_bad_input(library):
    layer = L.Linear(4, 3)
    with pytest.raises(ValueError, match=r"linear: `x` must have shape \(batch, 4\)"):
        layer(numpy.ones((2, 5), numpy.float32))
    with pytest.raises(
        TypeError, match="linear: `x` must have the dtype of `W`, float32"
    ):
        layer(numpy.ones((2, 4)))
    if library.name != "numpy":
        with pytest.raises(TypeError, match="all arrays must come from one library"):
            layer(library.asarray(numpy.ones((2, 4), numpy.float32)))


def test_every_library(library):
    values = numpy.asarray([[1.0, 2.0]], numpy.float32)
    layer = L.Linear(2, 2, initialW=numpy.eye(2, dtype=numpy.float32))
    for parameter in layer.params():
        parameter.array = library.asarray(parameter.array)
    assert to_numpy(layer(library.asarray(values))).tolist() == [[1, 2]]
