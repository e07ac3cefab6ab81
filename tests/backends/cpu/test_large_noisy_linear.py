"""The noisy linear layer by whole products, against its definition."""

from __future__ import annotations

import numpy
import pytest

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.cpu import large_noisy_linear


@pytest.mark.parametrize("threshold", [None, 3.0])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_layer_and_gradients(rng, monkeypatch, threshold, order, with_bias):
    monkeypatch.setattr(large_noisy_linear, "LARGE", 0)
    shapes = [(70, 40), (130, 40), (130, 40), (130,), (70, 130), (70, 130)]
    arrays = [
        numpy.asarray(rng.standard_normal(shape), numpy.float32, order=order)
        for shape in shapes
    ]
    x, theta, log_sigma2, b, noise, gy = arrays
    theta, log_sigma2 = map(numpy.ascontiguousarray, (theta, 3 * log_sigma2))
    b = b if with_bias else None
    doubles = [
        None if v is None else v.astype(float) for v in (x, theta, log_sigma2, b, noise)
    ]
    expected = kernels.vd_linear_forward.generic(*doubles, threshold)
    results = kernels.vd_linear_forward(x, theta, log_sigma2, b, noise, threshold)
    assert results[0].flags.c_contiguous
    assert_close(results, expected)
    weights = doubles[0], *doubles[1:3]
    expected = kernels.vd_linear_backward.generic(
        gy.astype(float), *weights, expected[1], threshold, True
    )
    arguments = gy, x, theta, log_sigma2, results[1], threshold
    assert_close(kernels.vd_linear_backward(*arguments, True), expected)
    assert kernels.vd_linear_backward(*arguments, False)[0] is None


def assert_close(results, expected):
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == numpy.float32
        atol = 2e-6 * max(1, numpy.abs(reference).max())
        numpy.testing.assert_allclose(result, reference, rtol=1e-4, atol=atol)
