"""Batch normalisation against torch, and against traced array functions."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.functions.normalization import normalized_batch
from vdcore.testing import check_gradients

SHAPES = [(5, 3), (2, 1), (4, 3, 5, 2), (1, 2, 2, 1), (33, 7, 3, 3), (3, 2, 4)]
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def draw(rng, shape, dtype="float64"):
    """x, gamma, beta, mean, var and gy."""
    x, gy = rng.standard_normal((2, *shape)) * 3 + 1
    vectors = rng.uniform(0.5, 2, (4, shape[1]))
    return [a.astype(dtype) for a in (x, *vectors, gy)]


def gradients(library, function, arrays, gy):
    def scalar(*arrays):
        y = function(*arrays)
        return array_namespace(y).sum(y * library.asarray(gy))

    _, slopes = value_and_gradients(scalar, [library.asarray(a) for a in arrays])
    return [to_numpy(slope) for slope in slopes]


def by_torch(torch, arrays, gy, training):
    x, gamma, beta, *statistics = (torch.tensor(a) for a in arrays)
    mean, var = statistics or (None, None)
    leaves = [x.requires_grad_(), gamma.requires_grad_(), beta.requires_grad_()]
    y = torch.nn.functional.batch_norm(
        x, mean, var, gamma, beta, training=training, eps=2e-5
    )
    slopes = torch.autograd.grad(y, leaves, torch.tensor(gy))
    return y.detach().numpy(), [slope.numpy() for slope in slopes]


def assert_close(ours, theirs, rtol):
    ours = to_numpy(ours)
    assert ours.dtype == theirs.dtype
    scale = max(1, numpy.abs(theirs).max())
    numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_is_torchs(tape_library, torch, rng, shape, dtype):
    *arrays, gy = draw(rng, shape, dtype)
    arrays = arrays[:3]
    expected, slopes = by_torch(torch, arrays, gy, training=True)
    y = F.batch_normalization(*map(tape_library.asarray, arrays))
    assert_close(y, expected, TOLERANCE[dtype])
    ours = gradients(tape_library, F.batch_normalization, arrays, gy)
    for a, b in zip(ours, slopes, strict=True):
        assert_close(a, b, 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", [*SHAPES, (1, 3), (1, 3, 1, 1)], ids=str)
def test_fixed_is_torchs(tape_library, torch, rng, shape, dtype):
    *arrays, gy = draw(rng, shape, dtype)
    expected, slopes = by_torch(torch, arrays, gy, training=False)
    y = F.fixed_batch_normalization(*map(tape_library.asarray, arrays))
    assert_close(y, expected, TOLERANCE[dtype])
    ours = gradients(tape_library, F.fixed_batch_normalization, arrays, gy)
    for a, b in zip(ours, slopes, strict=False):
        assert_close(a, b, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_of_the_batch(tape_library, rng, shape, dtype):
    x, gamma, beta, *_ = draw(rng, shape, dtype)
    arrays = map(tape_library.asarray, (x, gamma, beta))
    _, mean, variance = normalized_batch(*arrays, 2e-5)
    axes = (0, *range(2, len(shape)))
    assert_close(mean, x.mean(axes, dtype=float).astype(dtype), 1e-6)
    assert_close(variance, x.var(axes, dtype=float).astype(dtype), 1e-6)


@pytest.mark.parametrize("shape", [(1000, 3), (20, 3, 15, 15)], ids=str)
def test_a_large_mean(tape_library, rng, shape):
    """Mean 1000, deviation 1: single precision is left with 1e-4 of them."""
    x = (rng.standard_normal(shape) + 1000).astype(numpy.float32)
    one, zero = (numpy.full(3, n, numpy.float32) for n in (1, 0))
    arrays = map(tape_library.asarray, (x, one, zero))
    y, mean, variance = map(to_numpy, normalized_batch(*arrays, 2e-5))
    axes = (0, *range(2, x.ndim))
    expected = x.astype(float)
    numpy.testing.assert_allclose(mean, expected.mean(axes), rtol=1e-7)
    numpy.testing.assert_allclose(variance, expected.var(axes), rtol=1e-4)
    center, std = (s(axes, keepdims=True) for s in (expected.mean, expected.std))
    numpy.testing.assert_allclose(y, (expected - center) / std, atol=1e-4)


def composed(x, gamma, beta, mean=None, var=None):
    xp = array_namespace(x, gamma)
    axes = (0, *range(2, x.ndim))
    by_channel = (1, -1) + (1,) * (x.ndim - 2)

    def shaped(vector):
        return xp.reshape(vector, by_channel)

    if mean is None:
        mean = xp.mean(x, axis=axes)
        var = xp.mean(xp.square(x - shaped(mean)), axis=axes)
    std = xp.sqrt(var + 2e-5)
    return (x - shaped(mean)) / shaped(std) * shaped(gamma) + shaped(beta)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fixed", [True, False])
def test_fused_is_the_composition(tape_library, rng, shape, fixed):
    *arrays, gy = draw(rng, shape)
    fused = F.fixed_batch_normalization if fixed else F.batch_normalization
    arrays = arrays if fixed else arrays[:3]
    y, expected = (f(*map(tape_library.asarray, arrays)) for f in (fused, composed))
    assert_close(y, to_numpy(expected), 1e-11)
    pairs = (gradients(tape_library, f, arrays, gy) for f in (fused, composed))
    for a, b in zip(*pairs, strict=True):
        assert_close(a, b, 1e-10)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2, 2)], ids=str)
def test_gradients(tape_library, rng, shape):
    arrays = [tape_library.asarray(a) for a in draw(rng, shape)[:5]]
    check_gradients(F.batch_normalization, arrays[:3])
    check_gradients(F.fixed_batch_normalization, arrays)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_nan_is_not_hidden(tape_library, rng, dtype):
    x, gamma, beta, mean, var, _ = draw(rng, (4, 3, 2, 2), dtype)
    x[1, 2, 0, 1] = numpy.nan
    arrays = [tape_library.asarray(a) for a in (x, gamma, beta, mean, var)]
    y = to_numpy(F.batch_normalization(*arrays[:3]))
    assert numpy.isnan(y).all(axis=(0, 2, 3)).tolist() == [False, False, True]
    fixed = F.fixed_batch_normalization(*arrays)
    numpy.testing.assert_array_equal(numpy.isnan(to_numpy(fixed)), numpy.isnan(x))


def test_errors(tape_library, rng):
    x, gamma, beta, mean, var, _ = map(tape_library.asarray, draw(rng, (4, 3, 2, 2)))
    single = tape_library.xp.astype(gamma, tape_library.xp.float32)
    whole = tape_library.asarray(numpy.ones((4, 3), "int64"))
    batch, fixed = F.batch_normalization, F.fixed_batch_normalization
    for error, text, call in (
        (
            ValueError,
            r"^batch_normalization: `x` must have two or more values in each channel.*"
            r"got shape \(1, 3, 1, 1\); give a larger batch",
            lambda: batch(x[:1, :, :1, :1], gamma, beta),
        ),
        (
            ValueError,
            r"^batch_normalization: `x` must have two .*got shape \(1, 3\)",
            lambda: batch(x[:1, :, 0, 0], gamma, beta),
        ),
        (
            ValueError,
            r"^batch_normalization: `x` must have shape .*got \(0, 3, 2, 2\)",
            lambda: batch(x[:0, ...], gamma, beta),
        ),
        (
            ValueError,
            r"^fixed_batch_normalization: `x` must have shape .*got \(0, 3, 2, 2\)",
            lambda: fixed(x[:0, ...], gamma, beta, mean, var),
        ),
        (
            ValueError,
            r"`x` must have shape \(batch, channels, ...\).*got \(3,\)",
            lambda: batch(gamma, gamma, beta),
        ),
        (
            ValueError,
            r"`beta` must have shape \(3,\) to go with `x` of shape .*got \(2,\)",
            lambda: batch(x, gamma, beta[:2]),
        ),
        (
            ValueError,
            r"^fixed_batch_normalization: `var` must have shape \(3,\)",
            lambda: fixed(x, gamma, beta, mean, var[:2]),
        ),
        (
            TypeError,
            "`gamma` must have the dtype of `x`, .*64, got .*32",
            lambda: batch(x, single, beta),
        ),
        (
            TypeError,
            "`x` must hold floating-point numbers, got .*int64",
            lambda: batch(whole, gamma, beta),
        ),
        (TypeError, "`mean` must be an array", lambda: fixed(x, gamma, beta, 0, var)),
    ):
        with pytest.raises(error, match=text):
            call()


def test_mixed_libraries(tape_library, rng):
    if tape_library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    x, gamma, beta, *_ = draw(rng, (4, 3))
    with pytest.raises(TypeError, match="all arrays must come from one library"):
        F.batch_normalization(tape_library.asarray(x), gamma, beta)
