"""Large products and the linear layer, against NumPy in double precision."""

from __future__ import annotations

import numpy
import pytest

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.cpu import matmul as module
from vdcore.backends.cpu.matmul import matmul

SHAPES = (
    (1, 1, 1),
    (2, 3, 17),
    (6, 64, 64),
    (7, 1, 650),
    (97, 2, 5),
    (100, 33, 130),
    (20, 2600, 650),
    (650, 1025, 65),
    (700, 650, 33),
)  # height, depth, columns
LAYOUTS = {
    "plain": lambda x: x,
    "turned": numpy.asfortranarray,
    "strided": lambda x: numpy.repeat(x, 2, axis=1)[:, ::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
}


@pytest.fixture(autouse=True)
def products_of_any_size(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST", 0)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(numpy.float32)


def assert_close(result, expected, depth):
    assert result.dtype == numpy.float32
    numpy.testing.assert_allclose(result, expected, atol=1e-6 * (4 + depth), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("left", list(LAYOUTS))
@pytest.mark.parametrize("right", list(LAYOUTS))
def test_product_of_any_size_and_layout(rng, shape, left, right):
    height, depth, columns = shape
    a = LAYOUTS[left](normal(rng, height, depth))
    b = LAYOUTS[right](normal(rng, depth, columns))
    shift = normal(rng, columns)
    product = a.astype(float) @ b.astype(float)
    result = matmul(a, b)
    assert result.flags.c_contiguous
    assert_close(result, product, depth)
    assert_close(matmul(a, b, shift), product + shift, depth)


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 4, 0), (3, 0, 4)])
def test_empty_product(shape):
    height, _, columns = shape
    a, b = (numpy.ones(x, numpy.float32) for x in (shape[:2], shape[1:]))
    assert (matmul(a, b) == numpy.zeros((height, columns))).all()


def test_infinities_and_nan_stay_in_their_rows(rng):
    a, b = normal(rng, 70, 40), normal(rng, 40, 70)
    a[3, 5], b[7, 66] = numpy.nan, numpy.inf
    result, expected = matmul(a, b), a @ b
    numpy.testing.assert_array_equal(numpy.isfinite(result), numpy.isfinite(expected))


def test_results_depend_on_neither_threads_nor_layout(rng, monkeypatch):
    a, b = normal(rng, 150, 1100), normal(rng, 1100, 200)
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", threads)
        for left in LAYOUTS.values():
            results += [matmul(left(a), right(b)) for right in LAYOUTS.values()]
    for other in results[1:]:
        numpy.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_layer(rng, with_bias):
    x, W, gy = normal(rng, 90, 70), normal(rng, 600, 70), normal(rng, 90, 600)
    b = normal(rng, 600) if with_bias else None
    doubles = [None if v is None else v.astype(float) for v in (x, W, b, gy)]
    expected = kernels.linear_forward.generic(*doubles[:3])
    assert_close(kernels.linear_forward(x, W, b), expected, 70)
    arguments = doubles[3], doubles[0], doubles[1], True
    results = kernels.linear_backward(gy, x, W, True)
    expected = kernels.linear_backward.generic(*arguments)
    for result, reference in zip(results, expected, strict=True):
        assert_close(result, reference, 600)
    assert kernels.linear_backward(gy, x, W, False)[0] is None
