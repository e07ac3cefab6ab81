"""First values of parameters."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import initializers as I
from vdcore.initializers import get_initializer


def test_constant():
    values = I.Constant(-10)((2, 3))
    assert values.dtype == numpy.float32
    assert values.tolist() == [[-10] * 3] * 2
    assert I.Constant(1, numpy.float64)((1,)).dtype == numpy.float64


def test_given_is_a_copy():
    source = numpy.arange(6.0).reshape(2, 3)
    values = I.Given(source)((2, 3))
    numpy.testing.assert_array_equal(values, source)
    assert values.dtype == numpy.float64
    values[0, 0] = 9
    assert source[0, 0] == 0


def test_given_of_another_shape():
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\), got \(2, 3\)"):
        I.Given(numpy.ones((2, 3)))((3, 2))


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        (I.Normal(0.05), 0.05),
        (I.LeCunNormal(), 1 / math.sqrt(300)),
        (I.LeCunNormal(2.0), 2 / math.sqrt(300)),
        (I.HeNormal(), math.sqrt(2 / 300)),
        (I.GlorotUniform(), math.sqrt(6 / 500) / math.sqrt(3)),
        (I.Uniform(0.1), 0.1 / math.sqrt(3)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_moments(initializer, deviation):
    """Of 200 outputs from 300 inputs, within five standard errors.

    LeCun, Bottou, Orr, Mueller 1998, "Efficient BackProp", equation 16: fan_in^-1/2.
    He, Zhang, Ren, Sun 2015, section 2.2, equation 10: (2 / fan_in)^1/2.
    Glorot, Bengio 2010, equation 16: uniform within (6 / (fan_in + fan_out))^1/2, and a
    uniform variable within a has the deviation a / 3^1/2.
    """
    values = initializer((200, 300))
    assert values.dtype == numpy.float32
    n = values.size
    assert abs(values.mean()) < 5 * deviation / math.sqrt(n)
    # The relative variance of the square is 2 for a normal number, 0.8 for a uniform.
    assert abs(values.var() / deviation**2 - 1) < 5 * math.sqrt(2 / n)


def test_fan_in_of_a_convolution():
    """He et al. 2015, section 2.2: in_channels * height * width (there k^2 c).

    Glorot's limit counts the receptive field in both fans.
    """
    values = I.HeNormal()((400, 8, 3, 3)).astype(float)
    assert values.var() == pytest.approx(2 / 72, rel=5 * math.sqrt(2 / values.size))
    values = I.GlorotUniform()((400, 8, 3, 3))
    limit = math.sqrt(6 / (9 * 408))
    assert limit * 0.999 < numpy.abs(values).max() <= limit


def test_glorot_stays_within_its_limits():
    """Glorot, Bengio 2010, equation 16."""
    values = I.GlorotUniform()((200, 300))
    assert numpy.abs(values).max() <= numpy.float32(math.sqrt(6 / 500))


def test_seeds():
    vdcore.seed(3)
    first, second = I.Normal()((4,)), I.Normal()((4,))
    vdcore.seed(3)
    assert I.Normal()((4,)).tolist() == first.tolist()
    assert second.tolist() != first.tolist()
    own = [I.Normal(rng=numpy.random.default_rng(1))((4,)).tolist() for _ in range(2)]
    assert own[0] == own[1]


def test_get_initializer():
    default = I.Constant(7)
    assert get_initializer(None, default) is default
    given = I.Normal()
    assert get_initializer(given, default) is given
    assert get_initializer(2, default)((1,)).tolist() == [2]
    assert get_initializer(numpy.ones(1), default)((1,)).tolist() == [1]
    for value in ("zeros", [1.0], lambda shape: None):
        with pytest.raises(
            TypeError, match=r"expected an Initializer, a number, .*got"
        ):
            get_initializer(value, default)


def test_uniform_keeps_its_bounds():
    values = I.Uniform(0.1)((100, 100))
    assert 0.0999 < abs(values).max() <= 0.1


@pytest.mark.parametrize("shape", [(30, 30), (50, 20), (20, 5, 10), (1, 3)])
def test_orthogonal(shape):
    """Of the shorter side all vectors are orthogonal, of length `scale`."""
    values = I.Orthogonal(1.5)(shape)
    assert (values.shape, values.dtype) == (shape, numpy.float32)
    matrix = values.reshape(shape[0], -1)
    if matrix.shape[0] > matrix.shape[1]:
        matrix = matrix.T
    expected = 1.5**2 * numpy.eye(len(matrix))
    numpy.testing.assert_allclose(matrix @ matrix.T, expected, atol=1e-5)


def test_orthogonal_matrices_are_uniform():
    """Those of 2x2 have a trace of mean 0 and variance 1."""
    rng = numpy.random.default_rng(0)
    traces = [numpy.trace(I.Orthogonal(rng=rng)((2, 2))) for _ in range(2000)]
    assert abs(numpy.mean(traces)) < 5 / math.sqrt(2000)
    assert numpy.var(traces) == pytest.approx(1, abs=0.2)
