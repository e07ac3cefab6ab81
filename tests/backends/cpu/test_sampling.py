"""Sampled weights and embeddings against their definitions in double precision."""

from __future__ import annotations

import numpy
import pytest

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

SHAPES = ((1, 1), (3, 17), (33, 650), (5, 4096), (0, 3))
LAYOUTS = (
    numpy.ascontiguousarray,
    numpy.asfortranarray,
    lambda x: numpy.repeat(x, 2, axis=1)[:, ::2],
)


def draws(rng, shape):
    """theta, log_sigma2, noise, and a gradient."""
    arrays = [rng.standard_normal(shape).astype(numpy.float32) for _ in range(4)]
    arrays[1] = 3 * arrays[1] - 2
    return arrays


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("threshold", [None, 0.0])
def test_sampled_weights(rng, shape, layout, threshold):
    theta, log_sigma2, noise, gW = map(layout, draws(rng, shape))
    arguments = theta, log_sigma2, noise
    doubles = [x.astype(float) for x in (*arguments, gW)]
    results = [
        kernels.sample_weights(*arguments, threshold),
        *kernels.sample_weights_backward(gW, *arguments, threshold),
    ]
    expected = [
        kernels.sample_weights.generic(*doubles[:3], threshold),
        *kernels.sample_weights_backward.generic(doubles[3], *doubles[:3], threshold),
    ]
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == numpy.float32
        assert result.shape == shape
        numpy.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (63, 3), (130, 17), (1000, 650)])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", "i8"])
def test_gradient_of_a_table(rng, rows, size, dtype):
    ids = rng.integers(0, min(rows, 100), (7, 5)).astype(dtype)
    W = rng.standard_normal((rows, size)).astype(numpy.float32)
    gy = rng.standard_normal((size, 5, 7)).astype(numpy.float32).T
    expected = kernels.embed_backward.generic(gy.astype(float), ids, W.astype(float))
    result = kernels.embed_backward(gy, ids, W)
    assert result.dtype == numpy.float32
    numpy.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_numbers_of_no_row_add_nothing():
    W, gy = numpy.ones((70, 2), numpy.float32), numpy.ones((4, 2), numpy.float32)
    gW = kernels.embed_backward(gy, numpy.array([-1, 70, 69, 69]), W)
    assert gW.sum() == gW[69].sum() == 4


def test_results_do_not_depend_on_the_number_of_threads(rng, monkeypatch):
    theta, log_sigma2, noise, gW = draws(rng, (300, 50))
    ids = rng.integers(0, 300, 300)
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", threads)
        logits = theta, ids % 50
        results.append(
            [
                kernels.sample_weights(theta, log_sigma2, noise, 0.0),
                *kernels.sample_weights_backward(gW, theta, log_sigma2, noise, 0.0),
                kernels.embed_backward(gW, ids, theta),
                *kernels.softmax_cross_entropy(*logits),
            ]
        )
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            numpy.testing.assert_array_equal(first, other)
