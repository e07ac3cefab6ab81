from __future__ import annotations

import sys

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.datasets import get_digits

pytest.importorskip("sklearn", reason="needs scikit-learn")


def test_sizes_types_and_range():
    train, test = get_digits()
    images, labels = train.arrays
    assert images.shape == (1437, 64)
    assert test.arrays[0].shape == (360, 64)
    assert (images.dtype, labels.dtype) == (numpy.float32, numpy.int32)
    assert (images.min(), images.max()) == (0, 1)


def test_split_is_stratified_and_decided_by_the_seed():
    # UCI: 178 182 177 183 181 182 181 179 174 180 digits of each class
    counts = numpy.asarray([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    train, test = (numpy.bincount(half.arrays[1]) for half in get_digits())
    assert_array_equal(train + test, counts)
    numpy.testing.assert_allclose(test, counts * 360 / 1797, atol=1)
    first, again, other = (get_digits(seed=seed)[1].arrays[0] for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert not numpy.array_equal(first, other)


def test_shape_scale_and_no_labels():
    train, test = get_digits(withlabel=False, ndim=3, scale=16.0, dtype=numpy.float64)
    assert train.shape == (1437, 1, 8, 8)
    assert test.dtype == numpy.float64
    assert_array_equal(test, numpy.round(test))
    assert train.max() == 16


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "vdcore\[examples\]"'):
        get_digits()
