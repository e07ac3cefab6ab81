"""Weights drawn from their posterior, against the generic definitions."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_same
from vdcore import kernels
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu


def arrays(rng, *shape):
    """gW, theta, log_sigma2, noise."""
    gW, theta, noise = rng.standard_normal((3, *shape)).astype(numpy.float32)
    return gW, theta * 0.3, rng.uniform(-9, 3, shape).astype(numpy.float32), noise


@pytest.mark.parametrize("threshold", [None, 1.0])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3,), (4, 1), (33, 31), (5, 3, 2, 2)], ids=str
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_and_gradients(cupy_library, rng, shape, layout, threshold):
    gW, *posterior = arrays(rng, *shape)
    arguments = (*posterior, threshold)
    assert_same(kernels.sample_weights, cupy_library, *arguments, layout=layout)
    kernel = kernels.sample_weights_backward
    assert_same(kernel, cupy_library, gW, *arguments, layout=layout)


def test_a_mask_hides_no_nan_but_what_it_masks(cupy_library):
    theta = cupy_library.asarray(numpy.asarray([numpy.nan, 0, 1], numpy.float32))
    log_sigma2 = cupy_library.asarray(numpy.asarray([0, 200, 0], numpy.float32))
    noise = cupy_library.asarray(numpy.ones(3, numpy.float32))
    W = to_numpy(kernels.sample_weights(theta, log_sigma2, noise, 3.0))
    assert numpy.isnan(W).tolist() == [True, False, False]
    assert W[1] == 0
    gradients = kernels.sample_weights_backward(noise, theta, log_sigma2, noise, 3.0)
    assert [to_numpy(g)[1] for g in gradients] == [0, 0]


def test_other_dtypes_go_to_the_definition(cupy_library, rng):
    gW, *posterior = (x.astype(float) for x in arrays(rng, 4, 5))
    on_device = [cupy_library.asarray(x) for x in (gW, *posterior)]
    W = to_numpy(kernels.sample_weights(*on_device[1:], 1.0))
    expected = kernels.sample_weights.generic(*posterior, 1.0)
    numpy.testing.assert_allclose(W, expected, rtol=1e-12)
