"""Mean squared error, against NumPy in double precision."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.testing import check_gradients


@pytest.fixture
def prices(rng):
    return rng.standard_normal((6, 2)), rng.standard_normal((6, 2))


def test_value(library, prices):
    value = F.mean_squared_error(*map(library.asarray, prices))
    assert tuple(value.shape) == ()
    x, t = prices
    expected = numpy.sum((x - t) ** 2) / 12
    assert float(value) == pytest.approx(expected, rel=1e-14)


def test_gradients_by_both(tape_library, prices):
    check_gradients(F.mean_squared_error, list(map(tape_library.asarray, prices)))


def test_float32_stays(tape_library, prices):
    x, t = (tape_library.asarray(a.astype(numpy.float32)) for a in prices)
    assert F.mean_squared_error(x, t).dtype == tape_library.xp.float32


def test_other_shapes_are_not_broadcast():
    """(n, 1) against (n,) would be n^2 differences, and a plausible number."""
    expected = r"`t` must have the shape of `x`, \(5, 1\), got \(5,\)"
    with pytest.raises(ValueError, match=expected):
        F.mean_squared_error(numpy.ones((5, 1)), numpy.ones(5))


@pytest.mark.parametrize(
    ("x", "t", "error", "expected"),
    [
        (numpy.ones(0), numpy.ones(0), ValueError, r"must have elements.* \(0,\)"),
        (numpy.ones(2), [1.0, 1.0], TypeError, "`t` must be an array, got list"),
        (numpy.ones(2, int), numpy.ones(2, int), TypeError, "`x` must have a real"),
        (numpy.ones(2), numpy.ones(2, "f4"), TypeError, "dtype of `x`, float64"),
    ],
)
def test_bad_arguments(x, t, error, expected):
    with pytest.raises(error, match=f"mean_squared_error: .*{expected}"):
        F.mean_squared_error(x, t)
