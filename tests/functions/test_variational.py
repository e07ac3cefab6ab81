"""The noisy linear map and the KL penalty.

Sources: Molchanov et al. 2017, equation 17 for the map (local reparameterisation,
Kingma et al. 2015, equation 6) and 14 for the approximate divergence; the exact one is
h 2F2(1, 1; 3/2, 2; -h) with h = 1 / (2 alpha), whose power series is summed here.
"""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore import functions as F
from vdcore import variational
from vdcore.arrays import array_namespace, to_numpy, untraced
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

KLS = {
    "molchanov": variational.kl_sparse_vd,
    "exact": variational.kl_sparse_vd_exact,
}


@pytest.fixture
def arrays(rng):
    """x, W, log_sigma2, b and noise; about half of the weights above log alpha 1."""
    W = rng.standard_normal((3, 6))
    log_sigma2 = numpy.log(W**2) + rng.uniform(-2, 4, (3, 6))
    x, b, noise = (rng.standard_normal(s) for s in ((5, 6), (3,), (5, 3)))
    return [x, W, log_sigma2, b, noise]


def composed_vd_linear(x, W, log_sigma2, b, noise, threshold=None):
    """Equation 17 from functions of vdcore.variational, tested by themselves."""
    xp = array_namespace(x, W, log_sigma2)
    sigma2 = xp.exp(log_sigma2)
    if threshold is not None:
        keep = variational.keep_mask(
            variational.log_alpha(untraced(W), untraced(log_sigma2)), threshold
        )
        W = xp.where(keep, W, xp.zeros_like(W))
        sigma2 = xp.where(keep, sigma2, xp.zeros_like(sigma2))
    mean = xp.matmul(x, xp.matrix_transpose(W))
    variance = xp.matmul(xp.square(x), xp.matrix_transpose(sigma2))
    y = variational.sample(mean, variance, noise)
    return y if b is None else y + b


def squared(function, *last):
    def scalar(*arrays):
        y = function(*arrays, *last)
        return array_namespace(y).sum(y * y)

    return scalar


def test_reference_layer(library):
    """Equation 17 by hand: mean -1.5 and variance e^-2 + 4 = 4.135335283."""
    values = [[1.0, 2.0]], [[0.5, -1.0]], [[-2.0, 0.0]], [0.25], [[2.0]]
    x, W, log_sigma2, b, noise = map(library.asarray, values)
    y = to_numpy(F.vd_linear(x, W, log_sigma2, b, noise)).item()
    assert y == pytest.approx(-1.5 + 2 * math.sqrt(4.135335283) + 0.25, rel=1e-8)
    noise = library.asarray(values[-1])
    y = F.vd_linear(x, W, log_sigma2, None, noise, -0.5)  # masks the second weight
    assert to_numpy(y).item() == pytest.approx(0.5 + 2 * math.exp(-1), rel=1e-7)


@pytest.mark.parametrize("threshold", [None, 1.0, -9.0])
def test_fused_is_the_composition(tape_library, arrays, threshold):
    results = []
    for function in (F.vd_linear, composed_vd_linear):
        x, W, log_sigma2, b, noise = map(tape_library.asarray, arrays)
        value, gradients = value_and_gradients(
            squared(function, noise, threshold), [x, W, log_sigma2, b]
        )
        results.append([value, *gradients])
    for fused, composed in zip(*results, strict=True):
        numpy.testing.assert_allclose(to_numpy(fused), to_numpy(composed), rtol=1e-12)


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_gradients_of_vd_linear(tape_library, arrays, threshold):
    x, W, log_sigma2, b, noise = map(tape_library.asarray, arrays)

    def function(x, W, log_sigma2, b):
        return F.vd_linear(x, W, log_sigma2, b, noise * 1.0, threshold)

    check_gradients(function, [x, W, log_sigma2, b])
    check_gradients(lambda W, s: function(x, W, s, None), [W, log_sigma2])
    check_gradients(lambda b: function(x, W, log_sigma2, b), [b])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threshold", [None, 1.0])
def test_torch_with_the_same_noise(torch, arrays, dtype, threshold):
    """Equation 17 composed in torch, and differentiated by it."""
    arrays = [a.astype(dtype) for a in arrays]
    x, W, log_sigma2, b = (torch.tensor(a, requires_grad=True) for a in arrays[:4])
    noise = torch.tensor(arrays[4])
    keep = torch.ones_like(W)
    if threshold is not None:
        keep = (log_sigma2 - torch.log(W**2 + 1e-8) <= threshold).to(W.dtype)
    mean = torch.nn.functional.linear(x, W * keep, b)
    variance = x**2 @ (torch.exp(log_sigma2) * keep).T
    loss = ((mean + torch.sqrt(variance + 1e-8) * noise) ** 2).sum()
    loss.backward()
    value, gradients = value_and_gradients(
        squared(F.vd_linear, arrays[4].copy(), threshold), arrays[:4]
    )
    rtol = 1e-5 if dtype == "float32" else 1e-12
    assert float(value) == pytest.approx(loss.item(), rel=rtol)
    for ours, theirs in zip(gradients, (x, W, log_sigma2, b), strict=True):
        scale = theirs.grad.abs().max().item()
        numpy.testing.assert_allclose(ours, theirs.grad.numpy(), atol=rtol * scale)


def test_draws_have_the_moments_of_gaussian_weights(rng):
    """vd_linear's own noise over 100,000 rows, against linear_moments."""
    W, log_sigma2 = rng.standard_normal((2, 4)), rng.uniform(-2, 0, (2, 4))
    x = rng.standard_normal((1, 4))
    n = 100_000
    noise = rng.standard_normal((n, 2))
    y = F.vd_linear(numpy.repeat(x, n, axis=0), W, log_sigma2, None, noise)
    mean, variance = (m[0] for m in variational.linear_moments(x, W, log_sigma2))
    assert (numpy.abs(y.mean(axis=0) - mean) < 5 * numpy.sqrt(variance / n)).all()
    assert (numpy.abs(y.var(axis=0) / variance - 1) < 5 * math.sqrt(2 / n)).all()


def test_masked_weights_have_no_gradient(tape_library, arrays):
    """By definition: a mask sets mean and variance to constants."""
    x, W, log_sigma2, b, noise = map(tape_library.asarray, arrays)
    _, gradients = value_and_gradients(
        squared(lambda W, s: F.vd_linear(x, W, s, b, noise, 1.0)), [W, log_sigma2]
    )
    la = arrays[2] - numpy.log(arrays[1] ** 2 + 1e-8)
    assert 0 < (la > 1).sum() < la.size
    for gradient in gradients:
        numpy.testing.assert_array_equal(to_numpy(gradient) == 0, la > 1)


@pytest.mark.parametrize("kl", list(KLS))
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("clip", [None, 1.5])
def test_kl_is_the_composition(tape_library, arrays, kl, masked, clip):
    """Sum, mask and clip, of the divergences that variational/test_kl.py tests."""
    options = {"threshold": 1.0, "masked": masked, "kl": kl, "clip": clip}

    def fused(W, log_sigma2):
        return F.sparse_vd_kl(W, log_sigma2, scale=0.25, **options)[0]

    def composed(W, log_sigma2):
        xp = array_namespace(W, log_sigma2)
        raw = untraced(variational.log_alpha(untraced(W), untraced(log_sigma2)))
        term = KLS[kl](variational.log_alpha(W, log_sigma2, clip=clip))
        if masked:
            term = xp.where(raw <= 1.0, term, xp.zeros_like(term))
        return xp.sum(term) * 0.25

    pair = [tape_library.asarray(a) for a in arrays[1:3]]
    first, second = (value_and_gradients(f, pair) for f in (fused, composed))
    assert float(first[0]) == pytest.approx(float(second[0]), rel=1e-13)
    for a, b in zip(first[1], second[1], strict=True):
        numpy.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-10, atol=1e-14)
    check_gradients(fused, pair)


@pytest.mark.parametrize("kl", list(KLS))
def test_kl_of_the_reference_layer(library, kl):
    """Equation 14 as printed, or the power series, at log alpha -2 + log 4 and 0."""
    W = library.asarray(numpy.asarray([[0.5, -1.0]]))
    log_sigma2 = library.asarray(numpy.asarray([[-2.0, 0.0]]))
    value, penalty = F.sparse_vd_kl(W, log_sigma2, threshold=-0.5, kl=kl, scale=3.0)
    la = -2 + 2 * math.log(2)
    if kl == "molchanov":
        expected = [
            0.5 * math.log1p(math.exp(-a))
            + 0.63576 / (1 + math.exp(1.8732 + 1.48695 * a))
            for a in (la, 0)
        ]
    else:
        expected = [power_series(0.5 * math.exp(-a)) for a in (la, 0)]
    assert float(penalty.value) == pytest.approx(sum(expected), abs=6e-8)
    assert float(value) == pytest.approx(3 * sum(expected), abs=2e-7)
    rates = 1 / (1 + math.exp(-la)) + 0.5
    assert float(penalty.rate_sum) == pytest.approx(rates, abs=1e-7)
    assert float(penalty.kept) == 1


def power_series(h):
    """The exact divergence: h sum of (1)_n (1)_n / ((3/2)_n (2)_n) (-h)^n / n!."""
    total, term = 0.0, h
    for n in range(60):
        total += term
        term *= -h * (1 + n) * (1 + n) / ((1.5 + n) * (2 + n) * (n + 1))
    return total


def test_clip_limits_value_and_gradient(tape_library):
    """Equation 14 at -8, 0 and 8, and its derivative at 0, to nine digits by mpmath."""
    W = tape_library.asarray(numpy.asarray([1.0, 1.0, 1.0]))
    log_sigma2 = tape_library.asarray(numpy.asarray([-20.0, 0.0, 20.0]))
    value, (_, gradient) = value_and_gradients(
        lambda W, s: F.sparse_vd_kl(W, s, clip=8.0)[0], [W, log_sigma2]
    )
    assert float(value) == pytest.approx(
        4.635899480 + 0.431238951 + 1.68369e-4, abs=2e-8
    )
    numpy.testing.assert_allclose(to_numpy(gradient), [0, -0.35912773, 0], atol=2e-8)


def test_both_are_one_on_the_tape_and_off(tape_library, arrays):
    _, W, log_sigma2, _, _ = map(tape_library.asarray, arrays)
    off, _ = F.sparse_vd_kl(W, log_sigma2)
    on, _ = value_and_gradients(lambda *a: F.sparse_vd_kl(*a)[0], [W, log_sigma2])
    assert float(off) == float(on)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", ["W", "log_sigma2"])
def test_nan_is_not_hidden(tape_library, arrays, masked, dtype, which):
    """Not even by a mask: NaN is not above the threshold."""
    x, W, log_sigma2, b, noise = (a.astype(dtype) for a in arrays)
    (W if which == "W" else log_sigma2)[1, 2] = numpy.nan
    x, W, log_sigma2, b, noise = map(tape_library.asarray, (x, W, log_sigma2, b, noise))
    y = F.vd_linear(x, W, log_sigma2, b, noise, 1.0 if masked else None)
    assert numpy.isnan(to_numpy(y)[:, 1]).all()
    value, _ = F.sparse_vd_kl(W, log_sigma2, threshold=1.0, masked=masked, clip=8.0)
    assert math.isnan(float(value))


def test_errors(tape_library, arrays):
    x, W, log_sigma2, b, noise = map(tape_library.asarray, arrays)
    single = tape_library.xp.float32
    cast = tape_library.xp.astype
    for error, text, call in (
        (
            ValueError,
            r"vd_linear: `x` must have shape \(batch, 6\).*got \(5, 5\)",
            lambda: F.vd_linear(x[:, :5], W, log_sigma2, b, noise),
        ),
        (
            ValueError,
            r"vd_linear: `log_sigma2` must .* `W`, \(3, 6\), got \(2, 6\)",
            lambda: F.vd_linear(x, W, log_sigma2[:2, :], b, noise),
        ),
        (
            ValueError,
            r"vd_linear: `noise` must have shape \(5, 3\), got \(4, 3\)",
            lambda: F.vd_linear(x, W, log_sigma2, b, noise[:4, :]),
        ),
        (
            ValueError,
            r"vd_linear: `b` must have shape \(3,\)",
            lambda: F.vd_linear(x, W, log_sigma2, b[:2], noise),
        ),
        (
            TypeError,
            "vd_linear: `noise` must have the dtype of `W`, .*64, got .*32",
            lambda: F.vd_linear(x, W, log_sigma2, b, cast(noise, single)),
        ),
        (
            TypeError,
            "vd_linear: `log_sigma2` must have the dtype of `W`",
            lambda: F.vd_linear(x, W, cast(log_sigma2, single), b, noise),
        ),
        (
            ValueError,
            r"sparse_vd_kl: `log_sigma2` must have the shape of `W`.*got \(3, 5\)",
            lambda: F.sparse_vd_kl(W, log_sigma2[:, :5]),
        ),
        (
            TypeError,
            "sparse_vd_kl: `log_sigma2` must have the dtype of `W`",
            lambda: F.sparse_vd_kl(W, cast(log_sigma2, single)),
        ),
        (
            ValueError,
            "sparse_vd_kl: `kl` must be one of 'molchanov', 'exact'; got 'true'",
            lambda: F.sparse_vd_kl(W, log_sigma2, kl="true"),
        ),
    ):
        with pytest.raises(error, match=text):
            call()


def test_mixed_libraries(library, arrays):
    if library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    x, W, log_sigma2, b, noise = arrays
    for mixed in (
        (x, library.asarray(W), log_sigma2, b, noise),
        (x, W, library.asarray(log_sigma2), b, noise),
        (x, W, log_sigma2, b, library.asarray(noise)),
    ):
        with pytest.raises(TypeError, match="all arrays must come from one library"):
            F.vd_linear(*mixed)
    with pytest.raises(TypeError, match="all arrays must come from one library"):
        F.sparse_vd_kl(library.asarray(W), log_sigma2)
