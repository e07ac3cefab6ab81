"""Keep masks, sparsity, dropout rates."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore.arrays import to_numpy
from vdcore.variational import dropout_rate, keep_mask, sparsity
from vdcore.variational.pruning import THRESHOLD


def test_keep_mask(library):
    """By definition: what is not above the threshold stays."""
    la = library.asarray(numpy.asarray([[-2.0, 2.9], [3.0, 3.1]]))
    mask = keep_mask(la)
    assert mask.dtype == library.xp.bool
    assert to_numpy(mask).tolist() == [[True, True], [True, False]]
    assert to_numpy(keep_mask(la, -2.0)).tolist() == [[True, False], [False, False]]


def test_sparsity_is_the_share_removed(library):
    """Counted by hand."""
    keep = library.asarray(numpy.asarray([[True, False, False], [False, True, False]]))
    value = sparsity(keep)
    assert tuple(value.shape) == ()
    assert float(value) == pytest.approx(4 / 6, rel=1e-6)
    assert float(sparsity(keep | ~keep)) == 0


def test_sparsity_of_nothing_is_refused(library):
    with pytest.raises(
        ValueError, match=r"sparsity: `keep` must have elements, .*\(0,"
    ):
        sparsity(library.asarray(numpy.zeros((0, 3), bool)))


def test_dropout_rate(library):
    """Kingma et al. 2015, section 3: alpha = p / (1 - p), so p = alpha / (1 + alpha).

    By hand .952574 at log alpha 3 and .95 at 2.944439.
    """
    la = numpy.asarray([-math.inf, -100.0, 0.0, 2.944439, 3.0, 100.0, math.inf])
    rate = to_numpy(dropout_rate(library.asarray(la)))
    expected = [0, math.exp(-100), 0.5, 0.95, 0.952574, 1, 1]
    numpy.testing.assert_allclose(rate, expected, rtol=0, atol=5e-7)
    assert rate[1] == pytest.approx(math.exp(-100), rel=1e-12)


def test_threshold_is_that_of_the_paper():
    """Molchanov et al. 2017: log alpha 3, which they give as a rate of .95."""
    assert THRESHOLD == 3
    assert math.exp(3) / (1 + math.exp(3)) == pytest.approx(0.952574, abs=5e-7)
