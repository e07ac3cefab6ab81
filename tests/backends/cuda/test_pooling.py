"""Pooling against its generic definition."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_same, channels_last
from vdcore import kernels
from vdcore.arrays import to_numpy
from vdcore.windows import Window

pytestmark = pytest.mark.gpu

# Images; window; whether each of its positions meets the image with cover_all too.
CASES = {
    "one pixel": ((1, 1, 1, 1), Window((1, 1)), True),
    "2x2": ((3, 5, 8, 6), Window((2, 2), (2, 2)), True),
    "2x2 of an odd image": ((2, 33, 7, 5), Window((2, 2), (2, 2)), True),
    "overlapping": ((2, 3, 9, 8), Window((3, 3), (2, 2)), True),
    "padded": ((2, 4, 7, 7), Window((3, 3), (2, 2), (1, 1)), True),
    "of unequal sides": ((1, 3, 6, 9), Window((3, 2), (1, 2), (2, 0)), True),
    "step by step": ((2, 2, 5, 5), Window((2, 3), (1, 1), (1, 1)), True),
    "all of the image": ((9, 7, 4, 4), Window((4, 4), (4, 4)), True),
    "leaving out": ((2, 3, 8, 8), Window((2, 2), (3, 3)), False),
    "dilated": ((2, 3, 9, 8), Window((2, 3), (2, 1), (1, 0), (2, 2)), False),
}


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


def images(rng, *shape):
    """With equal numbers next to each other."""
    return numpy.round(rng.standard_normal(shape) * 2).astype(numpy.float32)


def check_max(library, rng, case, cover_all, **options):
    shape, window, _ = case
    x = images(rng, *shape)
    assert_same(
        kernels.max_pooling_forward,
        library,
        x,
        window,
        cover_all,
        tolerance=0,
        **options,
    )
    y, places = kernels.max_pooling_forward.generic(x, window, cover_all)
    gy = rng.standard_normal(y.shape).astype(numpy.float32)
    arguments = (gy, places.astype(numpy.int32), window, shape[2:])
    assert_same(kernels.max_pooling_backward, library, *arguments, **options)


@pytest.mark.parametrize("cover_all", [True, False])
def test_the_largest(cupy_library, rng, case, cover_all):
    if cover_all and not case[2]:
        pytest.skip("some positions would miss the image")
    check_max(cupy_library, rng, case, cover_all)


def check_average(library, rng, case, **options):
    shape, window, _ = case
    x = images(rng, *shape)
    assert_same(kernels.average_pooling_forward, library, x, window, **options)
    positions = window.positions(shape[2:])
    gy = rng.standard_normal((*shape[:2], *positions)).astype(numpy.float32)
    arguments = (gy, window, shape[2:])
    assert_same(kernels.average_pooling_backward, library, *arguments, **options)


def test_the_mean(cupy_library, rng, case):
    check_average(cupy_library, rng, case)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(cupy_library, rng, layout):
    check_max(cupy_library, rng, CASES["padded"], True, layout=layout)
    check_average(cupy_library, rng, CASES["padded"], layout=layout)


def test_what_is_not_a_number_is_the_largest(cupy_library, rng):
    x = images(rng, 2, 3, 6, 6)
    x[rng.random(x.shape) < 0.2] = numpy.nan
    x[0, 0] = -numpy.inf
    window = Window((3, 3), (2, 2), (1, 1))
    ours = kernels.max_pooling_forward(cupy_library.asarray(x), window, True)
    expected = kernels.max_pooling_forward.generic(x, window, True)
    for a, b in zip(ours, expected, strict=True):
        numpy.testing.assert_array_equal(to_numpy(a), b)


def test_what_is_put_out_lies_with_its_channels_last(cupy_library, rng):
    x = cupy_library.asarray(images(rng, 2, 5, 6, 4))
    window = Window((2, 2), (2, 2))
    y, places = kernels.max_pooling_forward(x, window, True)
    gx = kernels.max_pooling_backward(channels_last(y), places, window, (6, 4))
    for image in (y, places, gx, kernels.average_pooling_forward(x, window)):
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous


def test_double_precision_is_the_definition(cupy_library, rng):
    x = images(rng, 2, 3, 5, 5).astype(float)
    window = Window((2, 2), (2, 2))
    y, places = kernels.max_pooling_forward(cupy_library.asarray(x), window, True)
    assert y.dtype == numpy.float64
    gy = kernels.max_pooling_backward(y, places, window, (5, 5))
    expected = kernels.max_pooling_forward.generic(x, window, True)
    numpy.testing.assert_array_equal(to_numpy(y), expected[0])
    slopes = kernels.max_pooling_backward.generic(*expected, window, (5, 5))
    numpy.testing.assert_array_equal(to_numpy(gy), slopes)
