"""Activation functions."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

X = numpy.asarray([[-2.5, -0.3, 0.2], [1.7, 3.1, -0.9]])
ORACLES = {
    "relu": lambda x: numpy.where(x > 0, x, 0),
    "tanh": numpy.tanh,
    "sigmoid": lambda x: 1 / (1 + numpy.exp(-x)),
    "softmax": lambda x: numpy.exp(x) / numpy.exp(x).sum(axis=-1, keepdims=True),
}


@pytest.mark.parametrize("name", list(ORACLES))
def test_values(library, name):
    y = getattr(F, name)(library.asarray(X))
    numpy.testing.assert_allclose(to_numpy(y), ORACLES[name](X), rtol=1e-14)


@pytest.mark.parametrize("name", list(ORACLES))
def test_gradients(tape_library, name):
    check_gradients(getattr(F, name), [tape_library.asarray(X)])


def test_relu_at_zero(tape_library):
    x = tape_library.asarray([-1.0, 0.0, 1.0])
    _, (gradient,) = value_and_gradients(
        lambda x: array_namespace(x).sum(F.relu(x)), [x]
    )
    assert to_numpy(gradient).tolist() == [0, 0, 1]


def test_fused_relu_is_the_composition(tape_library):
    def gradient(relu):
        def scalar(x):
            y = relu(x)
            return array_namespace(y).sum(y * y * y)

        return to_numpy(value_and_gradients(scalar, [tape_library.asarray(X)])[1][0])

    composed = gradient(lambda x: array_namespace(x).maximum(x, 0))
    numpy.testing.assert_array_equal(gradient(F.relu), composed)


def test_slope_of_sigmoid_at_zero(tape_library):
    x = tape_library.asarray([0.0])
    _, (gradient,) = value_and_gradients(
        lambda x: array_namespace(x).sum(F.sigmoid(x)), [x]
    )
    assert to_numpy(gradient).tolist() == [0.25]


@pytest.mark.parametrize("name", list(ORACLES))
def test_nan_is_not_hidden(tape_library, name):
    x = tape_library.asarray([[numpy.nan, 1.0]])
    assert numpy.isnan(to_numpy(getattr(F, name)(x))[0, 0])


def test_large_scores_do_not_overflow(tape_library):
    x = tape_library.asarray(numpy.asarray([[1e4, 0, -1e4]], numpy.float32))
    assert to_numpy(F.softmax(x)).tolist() == [[1, 0, 0]]
    assert to_numpy(F.sigmoid(x)).tolist() == [[1, 0.5, 0]]
