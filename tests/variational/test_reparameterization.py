"""log alpha, moments and samples.

Sources: alpha = sigma2 / theta^2 (Molchanov et al. 2017, section 4.2); mean and
variance of a linear map of Gaussian weights, and the sample as a function of standard
noise (Kingma, Salimans, Welling 2015, section 2.3, equation 6).
"""

from __future__ import annotations

import math
from functools import partial

import numpy
import pytest

from vdcore.arrays import to_numpy
from vdcore.variational import linear_moments, log_alpha, log_alpha_grad, sample
from vdcore.variational.special import sigmoid, softplus


def test_reference_layer(library):
    """By hand for x = (1, 2), W = (.5, -1), log sigma2 = (-2, 0).

    log alpha = -2 - log .25 and 0; mean .5 - 2 and variance e^-2 + 4 by equation 6.
    """
    x, theta, log_sigma2 = (
        library.asarray(numpy.asarray([v])) for v in ([1.0, 2], [0.5, -1], [-2.0, 0])
    )
    la = to_numpy(library.call(partial(log_alpha, eps=0.0), theta, log_sigma2))
    numpy.testing.assert_allclose(la, [[-0.613706, 0]], atol=5e-7)
    mean, variance = library.call(linear_moments, x, theta, log_sigma2)
    assert to_numpy(mean).tolist() == [[-1.5]]
    std = math.sqrt(math.exp(-2) + 4)
    assert to_numpy(variance).item() == pytest.approx(std**2, rel=1e-12)
    b = library.asarray(numpy.ones(1))
    mean, _ = library.call(linear_moments, x, theta, log_sigma2, b)
    assert to_numpy(mean).tolist() == [[-0.5]]
    draw = library.call(sample, mean, variance, library.asarray([[2.0]]))
    assert to_numpy(draw).item() == pytest.approx(-0.5 + 2 * std, rel=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_alpha_against_its_formula(library, dtype, rng):
    """Section 4.2, with eps added to theta^2, by NumPy in double precision."""
    theta = (rng.standard_normal(200) * 10.0 ** rng.uniform(-8, 3, 200)).astype(dtype)
    log_sigma2 = rng.uniform(-20, 5, 200).astype(dtype)
    arrays = library.asarray(theta), library.asarray(log_sigma2)
    result = library.call(log_alpha, *arrays)
    assert result.dtype == arrays[0].dtype
    expected = log_sigma2.astype(float) - numpy.log(theta.astype(float) ** 2 + 1e-8)
    rtol = 1e-6 if dtype == "float32" else 1e-14
    numpy.testing.assert_allclose(to_numpy(result), expected, rtol=rtol, atol=40 * rtol)


def test_log_alpha_at_zero_and_eps(library):
    """The formula at theta = 0 and sigma2 = 1: -log eps."""
    zero = library.asarray(numpy.zeros(()))
    for eps in (1e-8, 1e-4):
        la = library.call(partial(log_alpha, eps=eps), zero, zero)
        assert float(la) == pytest.approx(-math.log(eps), rel=1e-12)


def test_clip(library):
    theta = library.asarray(numpy.asarray([1.0, 1.0, 1.0, numpy.nan]))
    log_sigma2 = library.asarray(numpy.asarray([-9.0, 9.0, 2.0, 0.0]))
    result = to_numpy(library.call(partial(log_alpha, clip=8.0), theta, log_sigma2))
    numpy.testing.assert_allclose(result, [-8, 8, 2, numpy.nan], atol=1e-7)


@pytest.mark.filterwarnings("error")
def test_float16_neither_overflows_nor_underflows():
    """All 63488 finite numbers of the format, against the formula in double."""
    theta = numpy.arange(2**16, dtype=numpy.uint16).view(numpy.float16)
    theta = theta[numpy.isfinite(theta)]
    for log_sigma2 in (-20.0, 0.0, 5.0):
        la = log_alpha(theta, numpy.full_like(theta, log_sigma2))
        assert la.dtype == numpy.float16
        expected = log_sigma2 - numpy.log(theta.astype(float) ** 2 + 1e-8)
        # Numbers of up to 43 are 1/32 apart; three roundings.
        assert numpy.abs(la - expected).max() < 0.05
    slope = log_alpha_grad(theta)
    assert slope.dtype == numpy.float16
    exact = -2 * theta.astype(float) / (theta.astype(float) ** 2 + 1e-8)
    numpy.testing.assert_allclose(slope, exact, rtol=5e-3, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_of_torch(torch, dtype):
    """All finite numbers of the formats, against the formula in double."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    theta = bits.view(getattr(torch, dtype))
    theta = theta[torch.isfinite(theta)]
    la = log_alpha(theta, torch.zeros_like(theta))
    assert la.dtype == theta.dtype
    expected = -torch.log(theta.double() ** 2 + 1e-8)
    spacing = 2.0**-10 if dtype == "float16" else 2.0**-7
    assert ((la - expected).abs() <= 2 * spacing * (1 + expected.abs())).all()


def test_log_alpha_grad(library, rng):
    """By hand: d(-log(theta^2 + eps)) = -2 theta / (theta^2 + eps)."""
    theta = rng.standard_normal(50) * 10.0 ** rng.uniform(-8, 3, 50)
    theta[0] = 0
    result = to_numpy(library.call(log_alpha_grad, library.asarray(theta)))
    numpy.testing.assert_allclose(result, -2 * theta / (theta**2 + 1e-8), rtol=1e-12)


def test_gradients_by_other_means(torch):
    """By differentiating log_alpha in torch."""
    theta = torch.tensor([-2.0, -1e-4, 1e-6, 0.3], dtype=torch.float64)
    theta.requires_grad_()
    log_alpha(theta, torch.zeros_like(theta)).sum().backward()
    expected = log_alpha_grad(theta.detach())
    numpy.testing.assert_allclose(theta.grad.numpy(), expected.numpy(), rtol=1e-12)


def test_moments_are_those_of_the_linear_map_of_gaussian_weights(rng):
    """200,000 weights drawn, against equation 6; five standard errors."""
    theta, log_sigma2 = rng.standard_normal((1, 3)), rng.uniform(-2, 1, (1, 3))
    x, n = rng.standard_normal((1, 3)), 200_000
    weights = theta + numpy.exp(log_sigma2 / 2) * rng.standard_normal((n, 3))
    outputs = (weights * x).sum(axis=1)
    mean, variance = (float(m.item()) for m in linear_moments(x, theta, log_sigma2))
    assert abs(outputs.mean() - mean) < 5 * math.sqrt(variance / n)
    assert abs(outputs.var() / variance - 1) < 5 * math.sqrt(2 / n)


def test_samples_have_the_moments_asked_for(library, rng):
    """Mean and variance of 100,000 draws, within five standard errors."""
    n = 100_000
    mean, variance = numpy.full(n, 0.3), numpy.full(n, 4.0)
    arrays = [library.asarray(a) for a in (mean, variance, rng.standard_normal(n))]
    draws = to_numpy(library.call(sample, *arrays))
    assert abs(draws.mean() - 0.3) < 5 * 2 / math.sqrt(n)
    assert abs(draws.var() / 4 - 1) < 5 * math.sqrt(2 / n)


def test_slope_of_a_sample_without_variance_is_finite(torch):
    for dtype in (torch.float16, torch.float32, torch.float64):
        variance = torch.zeros(1, dtype=dtype, requires_grad=True)
        sample(
            torch.ones(1, dtype=dtype), variance, torch.ones(1, dtype=dtype)
        ).backward()
        assert torch.isfinite(variance.grad).all()
        assert variance.grad > 0


def test_errors():
    two, three = numpy.ones((1, 2)), numpy.ones((1, 3))
    with pytest.raises(
        ValueError, match=r"log_alpha: `log_sigma2` .* \(1, 2\), got \(1,"
    ):
        log_alpha(two, three)
    with pytest.raises(ValueError, match=r"log_alpha: `clip` must be positive.*got -1"):
        log_alpha(two, two, clip=-1)
    with pytest.raises(ValueError, match=r"linear_moments: `log_sigma2` must have the"):
        linear_moments(two, two, three)
    with pytest.raises(
        ValueError, match=r"`x` must have shape \(batch, 2\).*got \(1, 3\)"
    ):
        linear_moments(three, two, two)


def test_mixed_libraries(library):
    if library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    x = numpy.ones((1, 2))
    with pytest.raises(TypeError, match="must come from one library"):
        log_alpha(library.asarray(x), x)
    with pytest.raises(TypeError, match="must come from one library"):
        sample(x, library.asarray(x), x)


def test_sigmoid_and_softplus_against_double_precision(library):
    """1 / (1 + e^-x) and log(1 + e^x) by Python's math; their tails by hand."""
    x = numpy.asarray([-1e4, -700.0, -30, -1, -1e-9, 0, 1e-9, 1, 30, 700, 1e4])
    s, plus = (
        to_numpy(library.call(f, library.asarray(x))) for f in (sigmoid, softplus)
    )
    expected = [1 / (1 + math.exp(-v)) for v in x[5:]]
    numpy.testing.assert_allclose(s[5:], expected, rtol=1e-15)
    tail = [0.0, math.exp(-700), 1 / (1 + math.exp(30)), 1 / (1 + math.e)]
    numpy.testing.assert_allclose(s[:4], tail, rtol=1e-14)
    expected = [0, 0, math.log1p(math.exp(-30)), math.log1p(math.exp(-1))]
    numpy.testing.assert_allclose(plus[:4], expected, rtol=1e-14, atol=1e-300)
    numpy.testing.assert_allclose(plus[-2:], [700, 1e4], rtol=1e-15)


@pytest.mark.parametrize("function", [sigmoid, softplus])
def test_infinities(function):
    limits = function(numpy.asarray([-numpy.inf, numpy.inf]))
    expected = [0, 1] if function is sigmoid else [0, numpy.inf]
    numpy.testing.assert_array_equal(limits, expected)


@pytest.mark.parametrize(("function", "slope"), [(sigmoid, 0.25), (softplus, 0.5)])
def test_slope_at_zero(torch, function, slope):
    """By hand: s (1 - s) and s at s = 1/2."""
    x = torch.zeros(1, requires_grad=True)
    function(x).backward()
    assert x.grad.item() == slope
