"""Products of stacks of matrices, which may lie in memory in any way."""

from __future__ import annotations

import numpy
import pytest

from vdcore import using_config
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu


@pytest.fixture
def multiply(cupy_library):
    from vdcore.backends.cuda.products import multiply

    return multiply


def rows(x):
    return x


def columns(x):
    return x.transpose(0, 2, 1).copy().transpose(0, 2, 1)


def parts(x):
    """Of larger matrices, in a larger stack."""
    _, height, width = x.shape
    wide = x.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    wide[0::2, :height, :width] = x
    return wide[0::2, :height, :width]


def interleaved(x):
    """Matrices of which rows follow each other in turn."""
    return x.transpose(1, 0, 2).copy().transpose(1, 0, 2)


@pytest.mark.parametrize("right", [rows, columns, parts, interleaved])
@pytest.mark.parametrize("left", [rows, columns, parts, interleaved])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 1, 5), (2, 1, 4, 1), (3, 5, 7, 2), (2, 33, 31, 40)]
)
def test_product_of_views(multiply, cupy_library, rng, shape, left, right):
    count, height, depth, width = shape
    a = rng.standard_normal((count, height, depth)).astype(numpy.float32)
    b = rng.standard_normal((count, depth, width)).astype(numpy.float32)
    views = left(cupy_library.asarray(a)), right(cupy_library.asarray(b))
    product = to_numpy(multiply(*views))
    expected = numpy.matmul(a.astype(float), b.astype(float))
    numpy.testing.assert_allclose(product, expected, atol=1e-5)


@pytest.mark.parametrize("layout", [rows, parts, interleaved])
def test_result_into_a_view(multiply, cupy_library, rng, layout):
    a = rng.standard_normal((2, 3, 5)).astype(numpy.float32)
    b = rng.standard_normal((2, 5, 4)).astype(numpy.float32)
    c = rng.standard_normal((2, 3, 4)).astype(numpy.float32)
    out = layout(cupy_library.asarray(c))
    factors = cupy_library.asarray(a), cupy_library.asarray(b)
    assert multiply(*factors, out, accumulate=True) is out
    numpy.testing.assert_allclose(to_numpy(out), c + numpy.matmul(a, b), atol=1e-5)
    multiply(*factors, out)
    numpy.testing.assert_allclose(to_numpy(out), numpy.matmul(a, b), atol=1e-5)


def test_float32_unless_tf32_is_asked_for(multiply, cupy_library, rng):
    """TF32 has 10 bits of mantissa; a single product shows how many are left."""
    a = numpy.full((1, 64, 64), 1 + 2**-15, numpy.float32)
    a = cupy_library.asarray(a)
    exact = 64 * (1 + 2**-15) ** 2
    numpy.testing.assert_allclose(to_numpy(multiply(a, a)), exact, rtol=1e-6)
    with using_config("tf32", True):
        rounded = to_numpy(multiply(a, a))
    numpy.testing.assert_allclose(rounded, 64, rtol=1e-6)
