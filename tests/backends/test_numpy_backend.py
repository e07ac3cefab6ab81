"""Every NumPy kernel against its generic definition in double precision.

Once compiled by numba and once without it.
"""

from __future__ import annotations

import math

import numpy
import pytest
from scipy import stats

from vdcore import kernels
from vdcore.backends import numpy_backend

PIECE = 4096  # of compiled kernels
SIZES = (0, 1, 7, PIECE - 1, PIECE + 1, 5 * PIECE + 3)


@pytest.fixture
def compiled(numba):
    """Skips where there are no compiled kernels."""
    if not numpy_backend.COMPILED:
        pytest.skip("VDCORE_NUMBA switches numba off")


@pytest.fixture(params=["numba", "without numba"])
def path(request, monkeypatch):
    """Both paths of the backend."""
    if request.param == "numba":
        request.getfixturevalue("compiled")
    monkeypatch.setattr(numpy_backend, "COMPILED", request.param == "numba")
    monkeypatch.setenv("VDCORE_NUM_THREADS", "2")
    return request.param


def as_double(arguments):
    return [
        a.astype(float) if isinstance(a, numpy.ndarray) and a.dtype.kind == "f" else a
        for a in arguments
    ]


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
    "plain": lambda x: x.copy(),
    "read-only": read_only,
    "strided": strided,
    "float64": lambda x: x.astype(float),
    "Fortran": lambda x: numpy.asfortranarray(x.copy()),
}


def posterior(rng, shape):
    theta = rng.standard_normal(shape) * 10.0 ** rng.uniform(-5, 1, shape)
    log_sigma2 = rng.uniform(-12, 3, shape)
    return theta.astype(numpy.float32), log_sigma2.astype(numpy.float32)


def assert_penalties_agree(arguments, kl):
    result = kernels.sparse_vd_penalty(*arguments)
    expected = kernels.sparse_vd_penalty.generic(*as_double(arguments))
    size = max(arguments[0].size, 1)
    for name in ("value", "rate_sum"):
        ours, theirs = (float(getattr(p, name)) for p in (result, expected))
        assert ours == pytest.approx(theirs, rel=3e-6, abs=1e-7 * size)
    assert float(result.kept) == float(expected.kept)
    for name in ("theta_gradient", "log_sigma2_gradient"):
        ours, theirs = (getattr(p, name) for p in (result, expected))
        assert ours.dtype == arguments[0].dtype
        assert ours.shape == arguments[0].shape
        scale = numpy.abs(theirs).max() if theirs.size else 0
        # The exact KL's polynomial of degree 20 rounds more.
        rtol = 2e-5 if kl == "exact" else 3e-6
        numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=2e-7 * scale)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kl", ["molchanov", "exact"])
def test_penalty_of_any_size(path, rng, size, kl):
    theta, log_sigma2 = posterior(rng, size)
    assert_penalties_agree((theta, log_sigma2, 3.0, False, kl, 8.0, 0.01), kl)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("clip", [None, 8.0])
@pytest.mark.parametrize("kl", ["molchanov", "exact"])
def test_penalty_of_any_layout(path, rng, layout, masked, clip, kl):
    theta, log_sigma2 = map(LAYOUTS[layout], posterior(rng, (31, 13)))
    assert_penalties_agree((theta, log_sigma2, 1.0, masked, kl, clip, 2.0), kl)


def test_results_do_not_depend_on_the_number_of_threads(compiled, rng, monkeypatch):
    penalized = (*posterior(rng, 5 * PIECE + 3), 3.0, False, "molchanov", 8.0, 1.0)
    x, theta, log_sigma2, b, noise = vd_arguments(rng, (70, 50, 40))
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", threads)
        layer = (x, theta, log_sigma2, b, noise.copy())
        y, residual = kernels.vd_linear_forward(*layer, None)
        gradients = kernels.vd_linear_backward(
            y, x, theta, log_sigma2, residual, None, True
        )
        results.append([*kernels.sparse_vd_penalty(*penalized), y, *gradients])
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            numpy.testing.assert_array_equal(first, other)


def test_statistics_and_masks_agree_on_the_threshold(path, rng):
    """Weights all about the threshold: counting and masking use one arithmetic."""
    theta = rng.uniform(0.5, 2, 20_000).astype(numpy.float32)
    log_sigma2 = (3 + 2 * numpy.log(theta)).astype(numpy.float32)
    penalty = kernels.sparse_vd_penalty(
        theta, log_sigma2, 3.0, True, "molchanov", 8.0, 1.0
    )
    masked = penalty.log_sigma2_gradient == 0
    assert penalty.kept == (~masked).sum()


def vd_arguments(rng, shape=(5, 7, 3), layout="plain", bias=True):
    batch, in_size, out_size = shape
    theta, _ = posterior(rng, (out_size, in_size))
    la = rng.uniform(-2, 2, theta.shape)
    for threshold in (0, -1.9):  # none so close that rounding decides
        la[abs(la - threshold) < 1e-4] += 0.01
    log_sigma2 = numpy.log(theta.astype(float) ** 2 + 1e-8) + la
    x, noise = (
        rng.standard_normal(s).astype(numpy.float32)
        for s in ((batch, in_size), (batch, out_size))
    )
    b = rng.standard_normal(out_size).astype(numpy.float32) if bias else None
    arrays = (x, theta, log_sigma2.astype(numpy.float32))
    change = LAYOUTS[layout]
    return [*map(change, arrays), b if b is None else change(b), change(noise)]


def close(ours, theirs, rtol):
    assert ours.dtype == numpy.float32 or rtol < 1e-9
    scale = numpy.abs(theirs).max() if theirs.size else 0
    numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"bias": False},
        {"layout": "strided"},
        {"layout": "float64"},
        {"layout": "Fortran"},
        {"layout": "read-only"},
        {"shape": (1, 1, 1)},
        {"shape": (0, 4, 2)},
        {"shape": (9, 401, 301)},
        {"shape": (16, 16, 1)},
        {"shape": (17, 33, 7), "bias": False},
        {"shape": (40, 37, 23), "layout": "strided"},
        {"shape": (40, 37, 23), "layout": "Fortran"},
        {"shape": (40, 37, 23), "layout": "read-only"},
        {"shape": (100, 784, 150)},
        {"shape": (517, 784, 13)},  # several panels
    ],
    ids=str,
)
@pytest.mark.parametrize("threshold", [None, 0.0, -1.9, -99.0])
def test_vd_linear(path, rng, case, threshold):
    """Thresholds keep all, half, a few weights (the sparse path), and none."""
    arguments = vd_arguments(rng, **case)
    rtol = 1e-12 if case.get("layout") == "float64" else 2e-5
    expected = kernels.vd_linear_forward.generic(*as_double(arguments), threshold)
    if case.get("layout") == "read-only":  # noise is memory to reuse
        arguments[-1] = arguments[-1].copy()
    gy = rng.standard_normal(arguments[-1].shape).astype(arguments[0].dtype)
    x, theta, log_sigma2 = arguments[:3]
    before = [a.copy() for a in (x, theta, log_sigma2)]
    y, residual = kernels.vd_linear_forward(*arguments, threshold)
    close(y, expected[0], rtol)
    close(residual, expected[1], rtol)
    for need_x in (True, False):
        backward = (gy, x, theta, log_sigma2, residual, threshold, need_x)
        results = kernels.vd_linear_backward(*backward)
        oracle = kernels.vd_linear_backward.generic(*as_double(backward))
        assert (results[0] is None) is not need_x
        for ours, theirs in zip(
            results[not need_x :], oracle[not need_x :], strict=True
        ):
            close(ours, theirs, 10 * rtol)
    for now, then in zip((x, theta, log_sigma2), before, strict=True):
        numpy.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("shape", [(20, 30, 0), (0, 30, 5), (20, 0, 5)])
def test_empty_layers(path, rng, shape):
    batch, in_size, out_size = shape
    x = numpy.ones((batch, in_size), numpy.float32)
    theta, log_sigma2 = (numpy.zeros((out_size, in_size), "f4") for _ in range(2))
    noise = numpy.ones((batch, out_size), numpy.float32)
    y, residual = kernels.vd_linear_forward(x, theta, log_sigma2, None, noise, None)
    gradients = kernels.vd_linear_backward(
        y, x, theta, log_sigma2, residual, None, True
    )
    shapes = [a.shape for a in (y, *gradients)]
    assert shapes == [noise.shape, x.shape, theta.shape, theta.shape, (out_size,)]
    assert all(numpy.isfinite(a).all() for a in (y, *gradients))


def test_gradient_of_double_precision(path, rng):
    """A float32 layer below a float64 loss."""
    x, theta, log_sigma2, b, noise = vd_arguments(rng, (40, 37, 23))
    y, residual = kernels.vd_linear_forward(x, theta, log_sigma2, b, noise, None)
    backward = (y.astype(float), x, theta, log_sigma2, residual, None, True)
    oracle = kernels.vd_linear_backward.generic(*as_double(backward))
    for ours, theirs in zip(kernels.vd_linear_backward(*backward), oracle, strict=True):
        close(ours.astype("f4"), theirs, 2e-4)


def test_the_sparse_path_is_taken_when_few_weights_are_left(compiled, rng):
    from vdcore.backends.cpu import masked_linear

    _, theta, log_sigma2, _, _ = vd_arguments(rng, (5, 50, 40))
    la = log_sigma2 - numpy.log(theta**2 + 1e-8)
    few = numpy.quantile(la, 0.05)
    kept = masked_linear.kept_weights(theta, log_sigma2, la <= few)
    rows, columns = numpy.nonzero(la <= few)
    numpy.testing.assert_array_equal(kept.columns, columns)
    numpy.testing.assert_array_equal(kept.theta, theta[rows, columns])
    assert masked_linear.kept_weights(theta, log_sigma2, la <= 0) is None


@pytest.mark.parametrize("label_dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (100, 10), (3, 1)])
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_softmax_cross_entropy(path, rng, shape, layout, label_dtype):
    logits = LAYOUTS[layout](8 * rng.standard_normal(shape).astype(numpy.float32))
    t = rng.integers(shape[1], size=shape[0]).astype(label_dtype)
    loss, gradient = kernels.softmax_cross_entropy(logits, t)
    expected = kernels.softmax_cross_entropy.generic(logits.astype(float), t)
    assert loss.dtype == gradient.dtype == logits.dtype
    assert float(loss) == pytest.approx(float(expected[0]), rel=2e-6, abs=1e-6)
    numpy.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("size", [*SIZES, (12, 11)], ids=str)
def test_adam(path, rng, size, layout):
    parameter, gradient, m = (
        rng.standard_normal(size).astype(numpy.float32) for _ in range(3)
    )
    v = (m * m).astype(numpy.float32)
    arrays = list(map(LAYOUTS[layout], (parameter, gradient, m, v)))
    numbers = (0.01, 0.9, 0.999, 1e-8)
    expected = kernels.adam.generic(*([x] for x in as_double(arrays)), *numbers)
    results = kernels.adam(*([x] for x in arrays), *numbers)
    rtol = 1e-12 if layout == "float64" else 1e-5
    for (ours,), (theirs,) in zip(results, expected, strict=True):
        assert ours.dtype == arrays[0].dtype
        numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def test_moments_of_weights_without_gradient_die_off(path):
    """A moment below 1e-30 becomes 0; the parameter stays."""
    arrays = [[numpy.full(3, x, numpy.float32)] for x in (1.0, 0.0, 2e-30, 2e-30)]
    (parameter,), (m,), (v,) = kernels.adam(*arrays, 0.001, 0.4, 0.4, 1e-8)
    assert parameter.tolist() == [1, 1, 1]
    assert (m < 1e-30).all()
    assert (v < 1e-30).all()


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (1000, 3)])
def test_noise_of_any_shape(path, shape):
    like = numpy.zeros(1, numpy.float32)
    noise = kernels.standard_normal(like, numpy.random.default_rng(0), shape)
    assert noise.shape == shape
    assert noise.dtype == numpy.float32
    assert numpy.isfinite(noise).all()


def draws(n, seed=0, bits=numpy.random.PCG64):
    rng = numpy.random.Generator(bits(seed))
    return kernels.standard_normal(numpy.zeros(1, numpy.float32), rng, (n,)).astype(
        float
    )


def test_noise_is_standard_normal(path):
    n = 400_000
    z = draws(n)
    # Standard errors of the first four moments of a normal sample.
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs((z**2).mean() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert abs(numpy.mean(numpy.abs(z) > 3) - 0.0026998) < 4 * math.sqrt(0.0027 / n)


def test_noise_is_uncorrelated(path):
    """Pairs of numbers in a piece come from the same words, and pieces from one key."""
    n, piece = 400_000, 4096
    z = draws(n)
    limit = 4 / math.sqrt(n - piece)
    for lag in (1, piece // 4, piece // 2, piece):
        a, b = z[:-lag], z[lag:]
        assert abs(numpy.corrcoef(a, b)[0, 1]) < limit
        assert abs(numpy.corrcoef(a**2, b**2)[0, 1]) < limit


def test_draws_differ_from_one_another(path):
    rng, like = numpy.random.default_rng(0), numpy.zeros(1, numpy.float32)
    first, second = (kernels.standard_normal(like, rng, (9999,)) for _ in range(2))
    assert abs(numpy.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(9999)


@pytest.mark.parametrize("bits", [numpy.random.Philox, numpy.random.MT19937])
def test_noise_of_other_bit_generators(path, bits):
    """MT19937 yields 32 random bits at a time, the others 64."""
    z = draws(100_000, bits=bits)
    assert stats.kstest(z, "norm").pvalue > 0.001


def test_random_bits_are_those_of_philox(compiled):
    """Known answers of the Random123 library (philox4x32, 10 rounds)."""
    from vdcore.backends.cpu import normal

    digits_of_pi = (0x85A308D3, 0xA4093822, 0x299F31D0, 0x13198A2E, 0x03707344)
    answers = {
        (0, 0, 0, 0, 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        digits_of_pi: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for (block, *key), expected in answers.items():
        position = 0x243F6A88 if block else 0
        words = numpy.zeros((4, 1), numpy.uint32)
        normal.philox(position, block, numpy.asarray(key, numpy.uint64), *words)
        assert tuple(words[:, 0]) == expected


def test_noise_repeats_from_the_state_of_the_generator(path):
    rng, like = numpy.random.default_rng(4), numpy.zeros(1, numpy.float32)
    kernels.standard_normal(like, rng, (3, 3))
    state = rng.bit_generator.state
    first = kernels.standard_normal(like, rng, (10, 7))
    rng.bit_generator.state = state
    second = kernels.standard_normal(like, rng, (10, 7))
    numpy.testing.assert_array_equal(first, second)
    third = kernels.standard_normal(like, rng, (10, 7))
    assert (third != second).mean() > 0.99


def test_description_names_the_path(path):
    expected = "NumPy, cache-blocked" if path == "without numba" else "numba "
    assert numpy_backend.description().startswith(expected)
    assert numpy_backend.description().endswith("2 threads")
