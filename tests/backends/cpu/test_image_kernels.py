"""Compiled pooling, batch normalisation, rectifier and dropout.

Against their generic definitions, which tests/functions compares with torch.
"""

from __future__ import annotations

import itertools
import math

import numpy
import pytest

from vdcore import kernels
from vdcore.backends import numpy_backend
from vdcore.windows import window

SHAPES = [(2, 3, 7, 9), (17, 5, 6, 6), (1, 1, 4, 4), (33, 2, 5, 4), (64, 9, 20, 20)]
EPS = 2e-5


@pytest.fixture(params=["numba", "without numba"])
def path(request, monkeypatch):
    """Both paths of the backend."""
    if request.param == "numba":
        request.getfixturevalue("compiled")
    monkeypatch.setattr(numpy_backend, "COMPILED", request.param == "numba")


@pytest.fixture
def compiled(numba, monkeypatch):
    """Two threads; skips where there are no compiled kernels."""
    if not numpy_backend.COMPILED:
        pytest.skip("VDCORE_NUMBA switches numba off")
    monkeypatch.setenv("VDCORE_NUM_THREADS", "2")


def feature_major(x):
    """The same values, with the batch last in memory."""
    return numpy.moveaxis(numpy.ascontiguousarray(numpy.moveaxis(x, 0, -1)), -1, 0)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def strided(x):
    """The same values, not contiguous."""
    wide = numpy.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


LAYOUTS = {
    "plain": numpy.copy,
    "feature-major": feature_major,
    "read-only": read_only,
    "strided": strided,
    "float64": lambda x: x.astype(float),
}


def windows(shape):
    """Windows of many sizes of which every position meets the image."""
    sizes, strides, pads = (1, 2, 3, (2, 3)), (1, 2, 3, (1, 2)), (0, 1, (1, 0))
    for arguments in itertools.product(sizes, strides, pads):
        moved = window("test", *arguments)
        for cover_all in (True, False):
            positions = moved.positions(shape, cover_all=cover_all)
            if all(
                meets(*numbers)
                for numbers in zip(*moved[:3], positions, shape, strict=True)
            ):
                yield moved, cover_all


def meets(size, stride, pad, count, length):
    """Whether the first and the last of some positions along an axis meet the image."""
    return count > 0 and pad < size and (count - 1) * stride < pad + length


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_max_pooling_by_any_window(path, rng, shape):
    """Whole numbers, so that some are equal, and a NaN."""
    x = feature_major(rng.integers(-3, 3, shape).astype(numpy.float32))
    x[0, 0, 1, 1] = numpy.nan
    count = 0
    for moved, cover_all in windows(shape[2:]):
        y, places = kernels.max_pooling_forward(x, moved, cover_all)
        expected = kernels.max_pooling_forward.generic(x, moved, cover_all)
        numpy.testing.assert_array_equal(y, expected[0])
        numpy.testing.assert_array_equal(places, expected[1])
        gy = rng.integers(-9, 9, y.shape).astype(numpy.float32)
        numpy.testing.assert_array_equal(
            kernels.max_pooling_backward(gy, places, moved, shape[2:]),
            kernels.max_pooling_backward.generic(gy, expected[1], moved, shape[2:]),
        )
        count += 1
    assert count > 50


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_average_pooling_by_any_window(path, rng, shape):
    x = feature_major(rng.standard_normal(shape).astype(numpy.float32))
    for moved, cover_all in windows(shape[2:]):
        if cover_all:
            continue
        y = kernels.average_pooling_forward(x, moved)
        expected = kernels.average_pooling_forward.generic(x.astype(float), moved)
        numpy.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
        gy = rng.standard_normal(y.shape).astype(numpy.float32)
        numpy.testing.assert_allclose(
            kernels.average_pooling_backward(gy, moved, shape[2:]),
            kernels.average_pooling_backward.generic(
                gy.astype(float), moved, shape[2:]
            ),
            rtol=1e-5,
            atol=1e-6,
        )


def every_kernel(rng, shape, change):
    """Pairs of a kernel's name and arguments, the arrays of them in some layout."""
    x, gy = rng.standard_normal((2, *shape)).astype(numpy.float32)
    vectors = rng.uniform(0.5, 2, (4, shape[1])).astype(numpy.float32)
    x, gy, gamma, beta, mean, variance = map(change, (x, gy, *vectors))
    yield "relu_forward", (x,)
    yield "relu_backward", (gy, x)
    yield "batch_normalization_forward", (x, gamma, beta, EPS)
    yield "batch_normalization_backward", (gy, x, gamma, mean, variance, EPS)
    yield "fixed_batch_normalization_forward", (x, gamma, beta, mean, variance, EPS)
    yield "fixed_batch_normalization_backward", (gy, x, gamma, mean, variance, EPS)
    if len(shape) == 4:
        moved = window("test", 2, 2)
        pooled = change(gy[:, :, : shape[2] // 2, : shape[3] // 2])
        yield "max_pooling_forward", (x, moved, False)
        yield "average_pooling_forward", (x, moved)
        yield "average_pooling_backward", (pooled, moved, shape[2:])


def as_tuple(results):
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("shape", [*SHAPES[:2], (5, 3), (33, 70)], ids=str)
def test_any_layout(path, rng, shape, layout):
    for name, arguments in every_kernel(rng, shape, LAYOUTS[layout]):
        kernel = getattr(kernels, name)
        before = [numpy.copy(a) for a in arguments if isinstance(a, numpy.ndarray)]
        doubled = [
            a.astype(float) if isinstance(a, numpy.ndarray) else a for a in arguments
        ]
        results = as_tuple(kernel(*arguments))
        for ours, theirs in zip(
            results, as_tuple(kernel.generic(*doubled)), strict=True
        ):
            if ours.dtype.kind == "f":
                assert ours.dtype == arguments[0].dtype
            assert ours.shape == theirs.shape
            numpy.testing.assert_allclose(
                ours, theirs, rtol=2e-5, atol=2e-5 * abs(theirs).max(), err_msg=name
            )
        after = [a for a in arguments if isinstance(a, numpy.ndarray)]
        for a, b in zip(before, after, strict=True):
            numpy.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(64, 9, 20, 20), (33, 70)], ids=str)
def test_what_one_puts_out_the_next_takes_without_a_copy(compiled, rng, shape):
    for name, arguments in every_kernel(rng, shape, feature_major):
        y = as_tuple(getattr(kernels, name)(*arguments))[0]
        assert numpy.moveaxis(y, 0, -1).flags.c_contiguous, name


def test_results_do_not_depend_on_the_number_of_threads(compiled, rng, monkeypatch):
    calls = list(every_kernel(rng, (64, 9, 20, 20), feature_major))
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", threads)
        drawn = kernels.dropout_mask(calls[0][1][0], numpy.random.default_rng(0), 0.3)
        results.append([drawn])
        for name, arguments in calls:
            results[-1] += as_tuple(getattr(kernels, name)(*arguments))
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            numpy.testing.assert_array_equal(first, other)


def test_relu_of_what_is_no_number_or_no_vector(path):
    x = numpy.asarray([numpy.nan, -numpy.inf, numpy.inf, -0.0], numpy.float32)
    y = kernels.relu_forward(x)
    numpy.testing.assert_array_equal(y, [numpy.nan, 0, numpy.inf, 0])
    gy = numpy.asarray([1, numpy.inf, 2, numpy.nan], numpy.float32)
    assert kernels.relu_backward(gy, y)[1:].tolist() == [0, 2, 0]
    for x in (numpy.float32(-3), numpy.asarray(-3, "f"), numpy.asarray([-3], int)):
        y = kernels.relu_forward(x)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert not y.any()
    assert kernels.relu_forward(numpy.empty((0, 3), "f")).shape == (0, 3)
    broadcast = numpy.broadcast_to(numpy.asarray([-1, 1], "f"), (3, 2))
    assert kernels.relu_forward(broadcast).tolist() == [[0, 1]] * 3
    assert kernels.relu_backward(broadcast, broadcast).tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("shape", [(3000, 2), (4, 2, 30, 31)], ids=str)
@pytest.mark.parametrize("outlier", [None, 1e4])
def test_moments_of_large_numbers(compiled, rng, shape, outlier):
    """Mean 1000, deviation 1; and with a first number that is far away."""
    x = (rng.standard_normal(shape) + 1000).astype(numpy.float32)
    if outlier is not None:
        x[0].reshape(2, -1)[:, 0] = outlier
    one, zero = (numpy.full(2, n, numpy.float32) for n in (1, 0))
    y, mean, variance = kernels.batch_normalization_forward(x, one, zero, 0.0)
    axes = (0, *range(2, x.ndim))
    exact = x.astype(float)
    numpy.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-7)
    numpy.testing.assert_allclose(variance, exact.var(axes), rtol=1e-6)
    center, std = (f(axes, keepdims=True) for f in (exact.mean, exact.std))
    numpy.testing.assert_allclose(y, (exact - center) / std, rtol=1e-5, atol=2e-6)


def test_dropout_mask_lies_in_memory_as_its_example(path, rng):
    x = feature_major(numpy.empty((32, 6, 10, 11), numpy.float32))
    mask = kernels.dropout_mask(x, rng, 0.25)
    assert mask.shape == x.shape
    assert set(numpy.unique(mask)) == {0, numpy.float32(1 / 0.75)}
    deviation = math.sqrt(0.25 * 0.75 / mask.size)
    assert (mask == 0).mean() == pytest.approx(0.25, abs=4 * deviation)
    if numpy_backend.COMPILED:
        assert mask.strides == x.strides
    assert kernels.dropout_mask(x[:0], rng, 0.5).shape == (0, 6, 10, 11)
