"""The KL terms against published values, quadrature and definitions."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
from scipy.integrate import quad
from scipy.special import dawsn

from vdcore.arrays import to_numpy
from vdcore.variational import (
    kl_sparse_vd,
    kl_sparse_vd_exact,
    kl_sparse_vd_exact_grad,
    kl_sparse_vd_grad,
)

# log alpha; equation 14 of Molchanov et al. 2017 and the true divergence (mpmath, 30
# digits, of h 2F2(1, 1; 3/2, 2; -h)); their derivatives.
TABLE = numpy.asarray(
    [
        (-8, 4.635899480, 4.635013607, -0.49987429, -0.50016790),
        (-4, 2.634208314, 2.625754932, -0.50654408, -0.50971424),
        (-2, 1.540532741, 1.544154645, -0.61746534, -0.61123428),
        (-1, 0.913872285, 0.914531310, -0.59326507, -0.59970375),
        (0, 0.431238951, 0.426685604, -0.35912773, -0.36238923),
        (1, 0.177969720, 0.173193859, -0.16513556, -0.16295964),
        (3, 0.025420043, 0.024688335, -0.02538482, -0.02448449),
        (8, 1.68369e-4, 1.67722e-4, -1.686656e-4, -1.677126e-4),
    ]
)
FUNCTIONS = [
    kl_sparse_vd,
    kl_sparse_vd_exact,
    kl_sparse_vd_grad,
    kl_sparse_vd_exact_grad,
]
POINTS = 161  # one size for all: JAX compiles for each
EULER = 0.5772156649015329


def equation_14(la):
    """As printed, from the constants of the paper."""
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    s = 1 / (1 + numpy.exp(-(k2 + k3 * la)))
    return 0.5 * numpy.log1p(numpy.exp(-la)) + k1 - k1 * s


def slope_of_equation_14(la):
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    s = 1 / (1 + numpy.exp(-(k2 + k3 * la)))
    return -k1 * k3 * s * (1 - s) - 0.5 / (1 + numpy.exp(la))


@numpy.vectorize
def dawson_divergence(la):
    """Twice the integral of Dawson's function from 0 to sqrt(1 / (2 alpha))."""
    return (
        2 * quad(dawsn, 0, math.sqrt(0.5 * math.exp(-la)), epsabs=1e-12, limit=200)[0]
    )


def dawson_slope(la):
    root = numpy.sqrt(0.5 * numpy.exp(-la))
    return -root * dawsn(root)


@pytest.mark.parametrize(
    ("function", "column", "tolerance"),
    [
        (kl_sparse_vd, 1, 6e-10),
        (kl_sparse_vd_exact, 2, 3e-8),
        (kl_sparse_vd_grad, 3, 6e-9),
        (kl_sparse_vd_exact_grad, 4, 3e-8),
    ],
)
def test_published_values(library, function, column, tolerance):
    result = to_numpy(library.call(function, library.asarray(TABLE[:, 0])))
    numpy.testing.assert_allclose(result, TABLE[:, column], rtol=0, atol=tolerance)


def test_equation_14_everywhere(library):
    la = numpy.linspace(-30, 30, POINTS)
    result = to_numpy(library.call(kl_sparse_vd, library.asarray(la)))
    # The printed form cancels for large la: hence no relative tolerance.
    numpy.testing.assert_allclose(result, equation_14(la), rtol=1e-14, atol=2e-15)


def test_exact_against_quadrature(library):
    la = numpy.linspace(-10, 10, POINTS)
    value = to_numpy(library.call(kl_sparse_vd_exact, library.asarray(la)))
    slope = to_numpy(library.call(kl_sparse_vd_exact_grad, library.asarray(la)))
    numpy.testing.assert_allclose(value, dawson_divergence(la), rtol=0, atol=3e-8)
    numpy.testing.assert_allclose(slope, dawson_slope(la), rtol=0, atol=3e-8)


def test_exact_outside_by_series(library):
    low, high = numpy.linspace(-60, -10, POINTS), numpy.linspace(10, 60, POINTS)
    # Asymptotic series of Dawson's function, integrated; the constant is that which
    # makes the divergence vanish for large alpha.
    alpha = numpy.exp(low)
    below = -low / 2 + (EULER + math.log(2)) / 2 - alpha / 2 - 0.75 * alpha**2
    h = 0.5 * numpy.exp(-high)
    above = h - h**2 / 3
    result = [
        to_numpy(library.call(kl_sparse_vd_exact, library.asarray(x)))
        for x in (low, high)
    ]
    numpy.testing.assert_allclose(result[0], below, rtol=0, atol=3e-8)
    numpy.testing.assert_allclose(result[1], above, rtol=0, atol=3e-8)
    slope = to_numpy(library.call(kl_sparse_vd_exact_grad, library.asarray(low)))
    numpy.testing.assert_allclose(slope, dawson_slope(low), rtol=0, atol=3e-8)


@pytest.mark.parametrize("la", [-3.0, 0.0, 2.0])
def test_exact_is_the_divergence_from_the_log_uniform_prior(la):
    """E log|w| - (log sigma^2) / 2 + const. over w ~ N(1, alpha), by quadrature."""
    root = math.exp(la / 2)
    pole = -1 / root

    def integrand(z):
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return math.log(abs(1 + root * z)) * density

    pieces = sorted([-12, min(max(pole, -12), 12), 12])
    expectation = sum(
        quad(integrand, a, b, limit=200)[0] for a, b in itertools.pairwise(pieces)
    )
    oracle = expectation - la / 2 + (EULER + math.log(2)) / 2
    value = float(kl_sparse_vd_exact(numpy.asarray(la)))
    assert value == pytest.approx(oracle, abs=1e-7)


def test_distance_of_the_approximation():
    """Equation 14 is 9.374e-3 off at worst, near log alpha = -3.5."""
    la = numpy.linspace(-8, 8, 16001)
    error = numpy.abs(kl_sparse_vd(la) - kl_sparse_vd_exact(la))
    assert error.max() == pytest.approx(9.374e-3, abs=1e-6)
    assert la[error.argmax()] == pytest.approx(-3.5, abs=0.1)


@pytest.mark.parametrize(
    ("function", "oracle"), list(zip(FUNCTIONS[:2], FUNCTIONS[2:], strict=True))
)
def test_derivatives_are_those_of_the_functions(function, oracle):
    la, h = numpy.linspace(-12, 12, 97), 1e-5
    difference = (function(la + h) - function(la - h)) / (2 * h)
    numpy.testing.assert_allclose(oracle(la), difference, rtol=0, atol=1e-9)


def check_float32(call, asarray):
    """Two units in the last place of the largest value, 5.6 at log alpha -10."""
    la = numpy.linspace(-10, 10, POINTS).astype(numpy.float32)
    for function, oracle in (
        (kl_sparse_vd, equation_14),
        (kl_sparse_vd_grad, slope_of_equation_14),
        (kl_sparse_vd_exact, dawson_divergence),
        (kl_sparse_vd_exact_grad, dawson_slope),
    ):
        result = to_numpy(call(function, asarray(la)))
        assert result.dtype == numpy.float32
        expected = oracle(la.astype(float))
        numpy.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_float32(library):
    check_float32(library.call, library.asarray)


def test_jax_in_its_default_mode(jax):
    """Where float64 does not exist, as a user has it who switches nothing on."""
    with jax.enable_x64(False):
        assert jax.numpy.asarray(numpy.ones(1)).dtype == numpy.float32
        check_float32(lambda f, la: jax.jit(f)(la), jax.numpy.asarray)


@pytest.mark.parametrize("function", FUNCTIONS[:2])
def test_tails_keep_their_relative_precision(library, function):
    """1e-10 nats a weight is not 0: the tail of eq. 14 is not 1 - sigmoid."""
    la = numpy.asarray([20.0, 30.0])
    result = to_numpy(library.call(function, library.asarray(la)))
    numpy.testing.assert_allclose(result, 0.5 * numpy.exp(-la), rtol=1e-3)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_are_finite_and_nan_is_passed_on(library, function, dtype):
    la = numpy.asarray([-1e4, -100, -88, 88, 100, 1e4, numpy.nan], dtype)
    result = to_numpy(library.call(function, library.asarray(la)))
    slope = function in FUNCTIONS[2:]
    limits = numpy.full(3, -0.5) if slope else -la[:3] / 2
    constant = 0 if slope else (EULER + math.log(2)) / 2
    atol = 6e-4 if not slope else 1e-6  # k1 of equation 14 is .63576, not .63518
    numpy.testing.assert_allclose(result[:3], limits + constant, rtol=1e-6, atol=atol)
    numpy.testing.assert_allclose(result[3:6], 0, atol=1e-30)
    assert numpy.isnan(result[6])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_shape_is_kept(tape_library, function):
    for shape in [(), (0,), (3, 0), (2, 3, 4)]:
        assert tuple(function(tape_library.asarray(numpy.zeros(shape))).shape) == shape


def test_torch_differentiates_by_its_own_means(torch):
    la = torch.linspace(-9, 9, 37, dtype=torch.float64, requires_grad=True)
    kl_sparse_vd(la).sum().backward()
    expected = kl_sparse_vd_grad(la.detach())
    numpy.testing.assert_allclose(la.grad.numpy(), expected.numpy(), atol=1e-14)


def test_jax_differentiates_by_its_own_means(jax):
    la = numpy.linspace(-9, 9, POINTS)
    slope = jax.jit(jax.grad(lambda x: kl_sparse_vd(x).sum()))(la)
    numpy.testing.assert_allclose(slope, kl_sparse_vd_grad(la), atol=1e-13)
