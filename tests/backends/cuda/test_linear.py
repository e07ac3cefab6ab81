"""The noisy linear layer against its generic definition."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import (
    LAYOUTS,
    assert_close,
    assert_same,
    reversed_axes,
)
from vdcore import kernels

pytestmark = pytest.mark.gpu

SHAPES = [(1, 1, 1), (3, 31, 33), (33, 3, 1), (5, 257, 10), (1000, 7, 3), (2, 784, 64)]


def arrays(rng, shape):
    """x, theta, log_sigma2, b, noise, gy."""
    batch, inputs, outputs = shape
    drawn = (
        rng.standard_normal((batch, inputs)),
        rng.standard_normal((outputs, inputs)) * 0.3,
        rng.uniform(-6, 3, (outputs, inputs)),
        rng.standard_normal(outputs),
        *rng.standard_normal((2, batch, outputs)),
    )
    return [a.astype(numpy.float32) for a in drawn]


@pytest.mark.parametrize("threshold", [None, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(cupy_library, rng, shape, threshold):
    x, theta, log_sigma2, b, noise, _ = arrays(rng, shape)
    for bias in (b, None):
        arguments = (x, theta, log_sigma2, bias, noise, threshold)
        assert_same(kernels.vd_linear_forward, cupy_library, *arguments)


@pytest.mark.parametrize("need_x", [True, False])
@pytest.mark.parametrize("threshold", [None, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(cupy_library, rng, shape, threshold, need_x):
    x, theta, log_sigma2, _, residual, gy = arrays(rng, shape)
    arguments = (gy, x, theta, log_sigma2, residual, threshold, need_x)
    assert_same(kernels.vd_linear_backward, cupy_library, *arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(cupy_library, rng, layout):
    x, theta, log_sigma2, b, noise, gy = arrays(rng, (9, 12, 5))
    assert_same(
        kernels.vd_linear_forward, cupy_library, x, theta, log_sigma2, b, noise, 1.0,
        layout=layout,
    )  # fmt: skip
    assert_same(
        kernels.vd_linear_backward, cupy_library, gy, x, theta, log_sigma2, noise, 1.0,
        True, layout=layout,
    )  # fmt: skip


def test_noise_that_is_repeated_in_memory_is_not_written_to(cupy_library, rng):
    x, theta, log_sigma2, b, noise, _ = arrays(rng, (4, 3, 5))
    on_device = [cupy_library.asarray(a) for a in (x, theta, log_sigma2, b)]
    row = cupy_library.asarray(noise[:1])
    repeated = cupy_library.xp.broadcast_to(row, noise.shape)
    y, residual = kernels.vd_linear_forward(*on_device, repeated, None)
    exact = [a.astype(float) for a in (x, theta, log_sigma2, b)]
    noise = numpy.broadcast_to(noise[:1], noise.shape).astype(float)
    expected = kernels.vd_linear_forward.generic(*exact, noise, None)
    assert_close(y, expected[0])
    assert_close(residual, expected[1])
    assert_close(row, noise[:1], 0)


def test_masked_weights_have_no_part_in_it(cupy_library, rng):
    """As if they were not there, however large they are."""
    x, theta, log_sigma2, b, noise, gy = arrays(rng, (6, 5, 4))
    masked = numpy.zeros(theta.shape, bool)
    masked[1, 2:] = True
    theta[...], log_sigma2[...] = (
        numpy.where(masked, 100, 1),
        numpy.where(masked, 20, 0),
    )
    arguments = [cupy_library.asarray(a) for a in (x, theta, log_sigma2, b, noise)]
    y, residual = kernels.vd_linear_forward(*arguments, 3.0)
    exact = [a.astype(float) for a in (x, theta, log_sigma2, b, noise)]
    exact[1][masked], exact[2][masked] = 0, -numpy.inf
    expected = kernels.vd_linear_forward.generic(*exact, None)
    assert_close(y, expected[0])
    arguments = [cupy_library.asarray(gy), *arguments[:3], residual]
    _, gtheta, glog_sigma2, _ = kernels.vd_linear_backward(*arguments, 3.0, True)
    for gradient in (gtheta, glog_sigma2):
        zero = gradient.get() == 0
        assert (zero == masked).all()


def test_double_precision_is_the_definition(cupy_library, rng):
    x, theta, log_sigma2, b, noise, _ = (
        a.astype(float) for a in arrays(rng, (3, 4, 2))
    )
    arguments = [cupy_library.asarray(a) for a in (x, theta, log_sigma2, b, noise)]
    y, _ = kernels.vd_linear_forward(*arguments, None)
    expected, _ = kernels.vd_linear_forward.generic(
        x, theta, log_sigma2, b, noise, None
    )
    assert y.dtype == numpy.float64
    numpy.testing.assert_allclose(y.get(), expected, rtol=1e-12)


def test_weights_in_another_order_are_the_definitions(cupy_library, rng):
    x, theta, log_sigma2, b, noise, _ = arrays(rng, (3, 4, 2))
    arguments = [cupy_library.asarray(a) for a in (x, theta, log_sigma2, b, noise)]
    arguments[1] = reversed_axes(arguments[1])
    y, _ = kernels.vd_linear_forward(*arguments, None)
    exact = [a.astype(float) for a in (x, theta, log_sigma2, b, noise)]
    assert_close(y, kernels.vd_linear_forward.generic(*exact, None)[0])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_plain_weights(cupy_library, rng, shape, layout):
    x, W, _, b, _, gy = arrays(rng, shape)
    for bias in (b, None):
        assert_same(kernels.linear_forward, cupy_library, x, W, bias, layout=layout)
    for need_x in (True, False):
        assert_same(
            kernels.linear_backward, cupy_library, gy, x, W, need_x, layout=layout
        )
