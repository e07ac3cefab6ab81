"""Batch normalisation against its generic definition."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_close, assert_same
from vdcore import kernels
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu

SHAPES = [
    (2, 1), (5, 3), (1000, 33), (257, 31), (3, 2, 4), (1, 2, 2, 1), (2, 3, 5, 4),
    (9, 40, 6, 6), (7, 65, 1, 1), (3, 2, 2, 3, 2),
]  # fmt: skip
EPS = 2e-5


def arrays(rng, shape):
    """x, gamma, beta, mean, variance, gy."""
    x, gy = rng.standard_normal((2, *shape)) * 3 + 1
    vectors = rng.uniform(0.5, 2, (4, shape[1]))
    return [a.astype(numpy.float32) for a in (x, *vectors, gy)]


def check(library, x, gamma, beta, mean, variance, gy, **options):
    """All four kernels; the gradients by the statistics that the batch has."""
    axes = (0, *range(2, x.ndim))
    of_batch = [s(axes, dtype=float).astype(numpy.float32) for s in (x.mean, x.var)]
    calls = (
        (kernels.batch_normalization_forward, x, gamma, beta),
        (kernels.batch_normalization_backward, gy, x, gamma, *of_batch),
        (kernels.fixed_batch_normalization_forward, x, gamma, beta, mean, variance),
        (kernels.fixed_batch_normalization_backward, gy, x, gamma, mean, variance),
    )
    for kernel, *arguments in calls:
        # Gradients by x of two numbers a channel cancel to next to nothing.
        assert_same(
            kernel, library, *arguments, EPS, tolerance=1e-5, least=1, **options
        )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(cupy_library, rng, shape):
    check(cupy_library, *arrays(rng, shape))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(17, 5), (4, 6, 5, 3)], ids=str)
def test_layouts(cupy_library, rng, shape, layout):
    check(cupy_library, *arrays(rng, shape), layout=layout)


def test_columns_of_many_bands(cupy_library, rng, monkeypatch):
    from vdcore.backends.cuda import tiles

    monkeypatch.setattr(tiles, "LEAST_ROWS", 3)
    for shape in ((100, 3), (17, 70)):
        check(cupy_library, *arrays(rng, shape))


@pytest.mark.parametrize("mean", [1e3, -1e4])
def test_a_large_mean(cupy_library, rng, mean):
    x = (rng.standard_normal((2000, 3)) + mean).astype(numpy.float32)
    one, zero = (cupy_library.asarray(numpy.full(3, n, numpy.float32)) for n in (1, 0))
    on_device = cupy_library.asarray(x)
    y, center, variance = kernels.batch_normalization_forward(on_device, one, zero, 0)
    exact = x.astype(float)
    numpy.testing.assert_allclose(to_numpy(center), exact.mean(0), rtol=1e-7)
    numpy.testing.assert_allclose(to_numpy(variance), exact.var(0), rtol=1e-6)
    expected = (exact - exact.mean(0)) / exact.std(0)
    numpy.testing.assert_allclose(to_numpy(y), expected, atol=1e-7 * abs(mean))


def test_one_number_far_from_the_others(cupy_library, rng):
    """Wherever it is, also where sums begin."""
    for place in (0, 1, 7, 500):
        x = rng.standard_normal((1000, 1)).astype(numpy.float32)
        x[place] = 1e5
        one = cupy_library.asarray(numpy.ones(1, numpy.float32))
        on_device = cupy_library.asarray(x)
        _, mean, variance = kernels.batch_normalization_forward(on_device, one, one, 0)
        exact = x.astype(float)
        numpy.testing.assert_allclose(to_numpy(mean), exact.mean(0), rtol=1e-5)
        numpy.testing.assert_allclose(to_numpy(variance), exact.var(0), rtol=1e-5)


def test_what_is_not_a_number_is_seen(cupy_library, rng):
    x, gamma, beta, *_ = arrays(rng, (50, 2))
    x[13, 1] = numpy.nan
    on_device = map(cupy_library.asarray, (x, gamma, beta))
    results = map(to_numpy, kernels.batch_normalization_forward(*on_device, EPS))
    for result in results:
        assert numpy.isnan(result[..., 1]).all()
        assert numpy.isfinite(result[..., 0]).all()


def test_a_constant_channel(cupy_library):
    x = cupy_library.asarray(numpy.full((300, 2), 0.1, numpy.float32))
    one = cupy_library.asarray(numpy.ones(2, numpy.float32))
    y, mean, variance = kernels.batch_normalization_forward(x, one, one, EPS)
    assert_close(variance, numpy.zeros(2), 0)
    assert_close(mean, numpy.full(2, numpy.float32(0.1), float), 0)
    assert_close(y, numpy.ones((300, 2)), 0)


def test_what_is_put_out_lies_with_its_channels_last(cupy_library, rng):
    x, gamma, beta, mean, variance, gy = map(
        cupy_library.asarray, arrays(rng, (2, 5, 3, 4))
    )
    y, *_ = kernels.batch_normalization_forward(x, gamma, beta, EPS)
    arguments = (gy, x, gamma, mean, variance, EPS)
    gx, *_ = kernels.batch_normalization_backward(*arguments)
    for image in (y, gx):
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous


def test_double_precision_is_the_definition(cupy_library, rng):
    x, gamma, beta, *_ = (a.astype(float) for a in arrays(rng, (4, 3, 2, 2)))
    on_device = map(cupy_library.asarray, (x, gamma, beta))
    y, *_ = kernels.batch_normalization_forward(*on_device, EPS)
    expected, *_ = kernels.batch_normalization_forward.generic(x, gamma, beta, EPS)
    numpy.testing.assert_allclose(to_numpy(y), expected, rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 33, 257])
def test_averages(cupy_library, rng, channels):
    arrays = rng.random((4, channels)).astype(numpy.float32)
    on_device = list(map(cupy_library.asarray, arrays))
    ours = kernels.average_statistics(*on_device, 0.9, 1.25)
    expected = kernels.average_statistics.generic(*arrays.astype(float), 0.9, 1.25)
    for a, b, given in zip(ours, expected, on_device[:2], strict=True):
        assert a is given
        assert_close(a, b)
