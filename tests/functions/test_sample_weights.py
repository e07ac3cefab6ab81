"""Weights drawn from their posterior."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore import functions as F
from vdcore import variational
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients


@pytest.fixture
def arrays(rng):
    """Means, log variances and noise; about half of the weights above log alpha 1."""
    W = rng.standard_normal((3, 6))
    log_sigma2 = numpy.log(W**2) + rng.uniform(-2, 4, (3, 6))
    return [W, log_sigma2, rng.standard_normal((3, 6))]


def test_by_hand(library):
    """1 + e^-1 * 2, and -1 + 1 * 0.5, masked at log alpha 0."""
    W, log_sigma2, noise = map(library.asarray, ([1.0, -1.0], [-2.0, 0.0], [2.0, 0.5]))
    y = to_numpy(F.sample_weights(W, log_sigma2, noise))
    numpy.testing.assert_allclose(y, [1 + 2 / math.e, -0.5], rtol=1e-14)
    y = to_numpy(F.sample_weights(W, log_sigma2, noise, -0.5))
    numpy.testing.assert_allclose(y, [1 + 2 / math.e, 0], rtol=1e-14)


@pytest.mark.parametrize("threshold", [None, 1.0, -9.0])
def test_gradients(tape_library, arrays, threshold):
    W, log_sigma2, noise = map(tape_library.asarray, arrays)

    def function(W, log_sigma2):
        return F.sample_weights(W, log_sigma2, noise, threshold)

    check_gradients(function, [W, log_sigma2])

    def scalar(W, log_sigma2):
        y = function(W, log_sigma2)
        return array_namespace(y).sum(y * y)

    _, gradients = value_and_gradients(scalar, [W, log_sigma2])
    la = to_numpy(variational.log_alpha(W, log_sigma2))
    keep = numpy.full((3, 6), True) if threshold is None else la <= threshold
    for gradient in gradients:
        numpy.testing.assert_array_equal(to_numpy(gradient) != 0, keep)


def test_moments(rng):
    noise = rng.standard_normal((100_000,))
    mean, log_sigma2 = (numpy.full(100_000, n) for n in (2.0, math.log(0.25)))
    y = F.sample_weights(mean, log_sigma2, noise)
    assert y.mean() == pytest.approx(2, abs=5 * 0.5 / math.sqrt(y.size))
    assert y.var() == pytest.approx(0.25, rel=5 * math.sqrt(2 / y.size))


@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_not_hidden(tape_library, arrays, which):
    arrays[which][1, 2] = numpy.nan
    y = to_numpy(F.sample_weights(*map(tape_library.asarray, arrays), -9.0))
    assert numpy.isnan(y).sum() == 1


def test_errors(tape_library, arrays):
    W, log_sigma2, noise = map(tape_library.asarray, arrays)
    single, cast = tape_library.xp.float32, tape_library.xp.astype
    for error, text, arguments in (
        (TypeError, "sample_weights: `noise` must be an array", (W, W, [0.0])),
        (
            ValueError,
            r"sample_weights: `log_sigma2` must have the shape of `W`, \(3, 6\)",
            (W, log_sigma2[:2, :], noise),
        ),
        (
            ValueError,
            r"sample_weights: `noise` must have shape \(3, 6\), got \(3, 5\)",
            (W, log_sigma2, noise[:, :5]),
        ),
        (
            TypeError,
            "sample_weights: `noise` must have the dtype of `W`",
            (W, log_sigma2, cast(noise, single)),
        ),
    ):
        with pytest.raises(error, match=text):
            F.sample_weights(*arguments)
