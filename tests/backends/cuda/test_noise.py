"""Random numbers: those of the CPU, under the same key."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import channels_last
from vdcore import kernels
from vdcore.arrays import to_numpy
from vdcore.replay import recorded_by

pytestmark = pytest.mark.gpu

SIZES = (1, 3, 1023, 1025, 3073, 4096, 4097, 9001)


def generator():
    return numpy.random.default_rng(5)


def scalar(library):
    return library.asarray(numpy.zeros(1, numpy.float32))


@pytest.mark.parametrize("size", SIZES)
def test_normal_numbers_of_the_cpu(cupy_library, numba, size):
    from vdcore.backends.cpu.normal import draw

    draws = kernels.standard_normal(scalar(cupy_library), generator(), (size,))
    expected = draw(generator().bit_generator, (size,))
    numpy.testing.assert_allclose(to_numpy(draws), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", SIZES)
def test_masks_of_the_cpu(cupy_library, numba, size, ratio):
    x = numpy.zeros(size, numpy.float32)
    mask = kernels.dropout_mask(cupy_library.asarray(x), generator(), ratio)
    expected = kernels.dropout_mask(x, generator(), ratio)
    numpy.testing.assert_array_equal(to_numpy(mask), expected)


def test_a_generator_goes_on(cupy_library):
    rng = generator()
    like = scalar(cupy_library)
    first, second = (kernels.standard_normal(like, rng, (5,)) for _ in range(2))
    assert not numpy.array_equal(to_numpy(first), to_numpy(second))


def test_moments(cupy_library):
    draws = kernels.standard_normal(scalar(cupy_library), generator(), (40000,))
    draws = to_numpy(draws).astype(float)
    for power, expected in ((1, 0), (2, 1), (3, 0), (4, 3)):
        powers = draws**power
        error = powers.std() / 200
        assert powers.mean() == pytest.approx(expected, abs=4 * error)


def test_draws_for_images_lie_with_their_channels_last(cupy_library):
    like = scalar(cupy_library)
    draws = kernels.standard_normal(like, generator(), (2, 5, 3, 4))
    assert draws.transpose(0, 2, 3, 1).flags.c_contiguous
    flat = kernels.standard_normal(like, generator(), (120,))
    in_memory = to_numpy(draws).transpose(0, 2, 3, 1).ravel()
    numpy.testing.assert_array_equal(in_memory, to_numpy(flat))


def test_a_mask_lies_as_what_it_masks(cupy_library):
    x = channels_last(cupy_library.asarray(numpy.zeros((2, 5, 3, 4), numpy.float32)))
    assert kernels.dropout_mask(x, generator(), 0.5).strides == x.strides


class OnDevice:
    """A recording of a step: what is live lies on the device."""

    def __init__(self, library):
        self._library = library

    def live(self, compute, like):
        number = numpy.asarray(compute())
        if number.dtype == float:
            number = number.astype(like.dtype)
        return self._library.asarray(number)

    def each_time(self, action):
        action()


def test_a_key_on_the_device(cupy_library):
    like = scalar(cupy_library)
    for draw in (
        lambda: kernels.standard_normal(like, generator(), (5000,)),
        lambda: kernels.dropout_mask(like, generator(), 0.5),
    ):
        expected = to_numpy(draw())
        with recorded_by(OnDevice(cupy_library)):
            numpy.testing.assert_array_equal(to_numpy(draw()), expected)


def test_other_dtypes_are_drawn_by_numpy(cupy_library):
    like = cupy_library.asarray(numpy.zeros(1))
    draws = to_numpy(kernels.standard_normal(like, generator(), (3, 2)))
    numpy.testing.assert_array_equal(draws, generator().standard_normal((3, 2)))
