"""The table of hot operations: who runs, and what the generic definitions compute."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore import kernels
from vdcore.arrays import to_numpy
from vdcore.kernels import Kernel
from vdcore.testing import stand_in_namespace


@pytest.fixture
def kernel():
    @Kernel
    def double(x):
        """Twice x."""
        return ("generic", x * 2)

    return double


def test_generic_definition_where_nothing_overrides(kernel):
    assert kernel(numpy.float64(2)) == ("generic", 4)
    assert kernel.__doc__ == "Twice x."


def test_override_is_chosen_by_the_first_argument(kernel):
    kernel(numpy.ones(1))  # the choice is remembered, and must be forgotten

    @kernel.override("numpy")
    def double(x):
        return ("numpy", *kernel.generic(x))

    assert double(numpy.ones(()))[:2] == ("numpy", "generic")
    assert kernel(numpy.ones(()))[0] == "numpy"
    assert kernel(stand_in_namespace.ones(()))[0] == "generic"


def test_override_of_another_library_does_not_count(kernel):
    kernel.override("cupy")(lambda x: ("cupy", x))
    assert kernel(numpy.ones(()))[0] == "generic"


def test_noise_has_library_and_dtype_of_its_example(library):
    for dtype in ("float32", "float64"):
        like = library.asarray(numpy.zeros(1, dtype))
        draws = kernels.standard_normal(like, numpy.random.default_rng(0), (2, 3))
        assert type(draws) is type(like)
        assert draws.dtype == like.dtype
        assert tuple(draws.shape) == (2, 3)
        again = kernels.standard_normal(like, numpy.random.default_rng(0), (2, 3))
        numpy.testing.assert_array_equal(to_numpy(draws), to_numpy(again))


def test_noise_of_half_precision(torch):
    for dtype in (torch.float16, torch.bfloat16):
        like = torch.zeros(1, dtype=dtype)
        draws = kernels.standard_normal(like, numpy.random.default_rng(0), (2, 3))
        assert draws.dtype == dtype


def test_noise_of_the_generic_definition_is_numpys(library):
    like = library.asarray(numpy.zeros(1))
    rng, expected = numpy.random.default_rng(3), numpy.random.default_rng(3)
    draws = kernels.standard_normal.generic(like, rng, (4,))
    numpy.testing.assert_array_equal(to_numpy(draws), expected.standard_normal(4))


def test_penalty_by_hand(tape_library):
    """One weight at log alpha 0, one at 3.1 (noise), one at 20 (clipped to 8).

    Divergence and slope: Molchanov et al. 2017, equation 14, and its derivative by
    mpmath (at 3.1 as printed, by math); d log alpha / d theta = -2 / theta by hand; the
    dropout rate alpha / (1 + alpha) by Kingma et al. 2015, section 3.
    """
    theta = tape_library.asarray(numpy.asarray([1.0, 1.0, -1.0]))
    log_sigma2 = tape_library.asarray(numpy.asarray([0.0, 3.1, 20.0]))
    tail = 1 / (1 + math.exp(1.8732 + 1.48695 * 3.1))
    kl = [0.431238951, 0.5 * math.log1p(math.exp(-3.1)) + 0.63576 * tail, 1.68369e-4]
    slope = -0.35912773
    p = kernels.sparse_vd_penalty(theta, log_sigma2, 3.0, False, "molchanov", 8.0, 0.5)
    assert float(p.value) == pytest.approx(sum(kl), abs=1e-7)
    assert float(p.kept) == 1
    rates = [1 / (1 + math.exp(-la)) for la in (0, 3.1, 8)]
    assert float(p.rate_sum) == pytest.approx(sum(rates), abs=1e-7)
    by_theta, by_log_sigma2 = (
        to_numpy(p.theta_gradient),
        to_numpy(p.log_sigma2_gradient),
    )
    assert by_log_sigma2[0] == pytest.approx(0.5 * slope, abs=1e-8)
    assert by_log_sigma2[1] < 0
    assert by_log_sigma2[2] == 0  # outside the clip
    numpy.testing.assert_allclose(
        by_theta, [-2 * by_log_sigma2[0], -2 * by_log_sigma2[1], 0], rtol=1e-7
    )
    p = kernels.sparse_vd_penalty(theta, log_sigma2, 3.0, True, "molchanov", 8.0, 0.5)
    assert float(p.value) == pytest.approx(kl[0], abs=1e-8)
    assert float(p.rate_sum) == pytest.approx(sum(rates), abs=1e-7)
    assert to_numpy(p.log_sigma2_gradient)[1:].tolist() == [0, 0]


def test_adam_by_hand(library):
    """Moments after one step from zero, section 2 of Kingma and Ba 2015."""
    lists = (
        [library.asarray(numpy.asarray(x))]
        for x in ([1.0, 2.0], [0.5, -4.0], [0, 0.0], [0, 0.0])
    )
    result = kernels.adam(*lists, 0.1, 0.9, 0.999, 1e-8)
    new, m, v = (to_numpy(arrays[0]) for arrays in result)
    numpy.testing.assert_allclose(m, [0.05, -0.4], rtol=1e-12)
    numpy.testing.assert_allclose(v, [0.00025, 0.016], rtol=1e-12)
    expected = [1 - 0.1 * 0.05 / math.sqrt(0.00025), 2 + 0.1 * 0.4 / math.sqrt(0.016)]
    numpy.testing.assert_allclose(new, expected, rtol=1e-6)


def test_adam_changes_nothing_by_a_loss_that_is_not_finite(tape_library):
    """Nor does the next one, for the mark stays: see watch_loss."""
    xp = tape_library.xp
    lists = [[tape_library.asarray(numpy.asarray(x))] for x in ([1.0], [0.5], [3], [4])]
    lists = [[xp.astype(x, xp.float32) for x in arrays] for arrays in lists]
    finite, updates = xp.ones((), dtype=xp.int32), xp.zeros((), dtype=xp.int32)
    for value, expected in ((2.0, (1, 1)), (numpy.nan, (0, 1)), (2.0, (0, 1))):
        loss = tape_library.asarray(numpy.float32(value))
        finite, updates = kernels.watch_loss(loss, finite, updates)
        assert (int(finite), int(updates)) == expected
    result = kernels.adam(*lists, 0.1, 0.9, 0.999, 1e-8, finite)
    assert [float(arrays[0][0]) for arrays in result] == [1, 3, 4]


def test_total_penalty_by_hand(tape_library):
    """Two layers of 10 weights together, 4 kept; then none."""

    def numbers(*values):
        return [tape_library.asarray(numpy.float32(value)) for value in values]

    sums = (numbers(3.0, 5.0), numbers(1.0, 4.0), numbers(4.0, 0.0))
    total = kernels.total_penalty(*sums, [0.5, 2.0], [10.0, *numbers(-1.0)], 10)
    assert [float(x) for x in total] == pytest.approx([11.5, 25, 0.5, 0.6, 2.5])
    total = kernels.total_penalty(*sums[:2], numbers(0, 0), [1.0, 1], [1.0, 1], 10)
    assert [float(x) for x in total[-2:]] == [1, numpy.inf]


def test_accuracy_by_hand(tape_library):
    """The first of equals; a NaN is the largest, as NumPy has it."""
    nan = numpy.nan
    rows = [[1, 2, 2], [3, 1, 2], [0, 0, 0], [1, nan, 9], [5, 6, 7], [nan, nan, 1]]
    scores = tape_library.asarray(numpy.asarray(rows, numpy.float32))
    labels = tape_library.asarray(numpy.asarray([1, 2, 0, 1, -1, 0]))
    share = kernels.accuracy(scores, labels)
    assert share.dtype == scores.dtype
    assert float(share) == pytest.approx(4 / 6)


@pytest.mark.parametrize("shape", [(3,), (70, 71)])
def test_sums_of_gradients_are_new_arrays(tape_library, rng, shape):
    first, second = (
        [rng.standard_normal((*shape, k)).astype(numpy.float32) for k in (1, 3)]
        for _ in range(2)
    )
    ours = [list(map(tape_library.asarray, arrays)) for arrays in (first, second)]
    totals = kernels.add_each(*ours)
    for total, a, b, given in zip(totals, first, second, ours[0], strict=True):
        numpy.testing.assert_array_equal(to_numpy(total), a + b)
        numpy.testing.assert_array_equal(to_numpy(given), a)
