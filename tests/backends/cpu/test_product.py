from __future__ import annotations

import numpy
import pytest

from vdcore.backends.cpu.jit import jit, numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.cpu.product import BLOCK, LANES, ROWS, product


@jit(cache=False)
def multiply(a, b, c):
    for top in range(0, len(a), ROWS):
        product(a[top : top + ROWS, 0:], b[:, 0:], c[top : top + ROWS, 0:])


@pytest.mark.parametrize("height", [1, 2, ROWS, 2 * ROWS + 1])
@pytest.mark.parametrize("depth", [1, 2, 17])
def test_product_of_any_size(rng, height, depth):
    for columns in range(LANES, 2 * BLOCK + 2):
        a = rng.standard_normal((height, depth)).astype(numpy.float32)
        b = rng.standard_normal((depth, columns)).astype(numpy.float32)
        c = numpy.full((height + 1, columns), numpy.nan, numpy.float32)
        multiply(a, b, c[:height])
        expected = a.astype(float) @ b.astype(float)
        numpy.testing.assert_allclose(c[:height], expected, rtol=1e-5, atol=1e-5)
        assert numpy.isnan(c[height]).all()


def test_left_factor_may_lie_in_any_way(rng):
    wide = rng.standard_normal((50, 40)).astype(numpy.float32)
    a = wide[::2, 1::3].T
    b = rng.standard_normal((25, 33)).astype(numpy.float32)
    c = numpy.empty((len(a), 33), numpy.float32)
    multiply(a, b, c)
    expected = a.astype(float) @ b.astype(float)
    numpy.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)


def test_nan_and_infinity_stay(rng):
    a = numpy.ones((1, 2), numpy.float32)
    b = numpy.ones((2, LANES), numpy.float32)
    b[0, 0], b[1, 1] = numpy.nan, numpy.inf
    c = numpy.empty((1, LANES), numpy.float32)
    multiply(a, b, c)
    assert numpy.isnan(c[0, 0])
    assert c[0, 1] == numpy.inf
    assert (c[0, 2:] == 2).all()


def test_other_numbers_are_refused():
    from numba.core.errors import TypingError

    a, b, c = (numpy.ones((LANES, LANES), t) for t in ("f8", "f4", "f4"))
    with pytest.raises(TypingError, match="matrices must be of float32"):
        multiply(a[:ROWS], b, c)
