"""Dropout: Srivastava et al. 2014, with Chainer's arguments."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import kernels
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.9])
def test_share_and_scale(tape_library, dtype, ratio):
    x = tape_library.asarray(numpy.full((40, 10, 5, 5), 3, dtype))
    y = to_numpy(F.dropout(x, ratio))
    assert y.dtype == dtype
    dropped = y == 0
    deviation = math.sqrt(ratio * (1 - ratio) / y.size)
    assert dropped.mean() == pytest.approx(ratio, abs=4 * deviation)
    numpy.testing.assert_allclose(y[~dropped], 3 / (1 - ratio), rtol=1e-6)


def test_draws_are_independent(tape_library):
    x = tape_library.asarray(numpy.ones((20, 5000)))
    kept = to_numpy(F.dropout(x, 0.4)) > 0
    correlations = numpy.corrcoef(kept)[numpy.triu_indices(20, 1)]
    assert abs(correlations).max() < 5 / math.sqrt(5000)
    beside = numpy.corrcoef(kept[:, 1:].ravel(), kept[:, :-1].ravel())[0, 1]
    assert abs(beside) < 5 / math.sqrt(20 * 5000)


def test_off_outside_of_training(tape_library):
    x = tape_library.asarray(numpy.ones(3))
    with vdcore.using_config("train", False):
        assert F.dropout(x, 0.9) is x
    assert F.dropout(x, 0) is x


def test_default_ratio_and_generator(tape_library):
    x = tape_library.asarray(numpy.ones((8, 8)))
    drawn = []
    for seed in (3, 3, 4):
        vdcore.seed(seed)
        drawn.append(to_numpy(F.dropout(x)))
    assert set(numpy.unique(drawn[0])) == {0, 2}
    numpy.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_a_generator_of_ones_own(tape_library):
    x = tape_library.asarray(numpy.ones((8, 8)))
    rng, other = numpy.random.default_rng(5), numpy.random.default_rng(5)
    first, second = (to_numpy(F.dropout(x, rng=rng)) for _ in range(2))
    assert (first != second).any()
    numpy.testing.assert_array_equal(first, to_numpy(F.dropout(x, rng=other)))


def test_gradient_is_the_mask(tape_library, rng):
    x = tape_library.asarray(rng.standard_normal((4, 6)))
    mask = kernels.dropout_mask(x, rng, 0.5)
    assert type(mask) is type(x)
    check_gradients(lambda x: F.dropout(x, mask=mask), [x])
    _, (gradient,) = value_and_gradients(
        lambda x: array_namespace(x).sum(F.dropout(x, mask=mask)), [x]
    )
    numpy.testing.assert_array_equal(to_numpy(gradient), to_numpy(mask))


def test_nan_is_not_hidden(tape_library):
    x = tape_library.asarray(numpy.full(100, numpy.nan))
    assert numpy.isnan(to_numpy(F.dropout(x))).all()


def test_a_mask_on_every_library(library):
    x = library.asarray(numpy.asarray([1.0, 2.0]))
    mask = library.asarray(numpy.asarray([0.0, 4.0]))
    assert to_numpy(F.dropout(x, mask=mask)).tolist() == [0, 8]


def test_errors(tape_library):
    x = tape_library.asarray(numpy.ones((2, 3)))
    for ratio in (1, 1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"dropout: `ratio` must lie in \[0, 1\)"):
            F.dropout(x, ratio)
    with (
        vdcore.using_config("train", False),
        pytest.raises(ValueError, match="dropout: `ratio`"),
    ):
        F.dropout(x, 1)
    with pytest.raises(TypeError, match="dropout: `x` must be an array, got list"):
        F.dropout([1.0])
    with pytest.raises(ValueError, match=r"`mask` must have .* of `x`, \(2, 3\)"):
        F.dropout(x, mask=x[:1, ...])
    single = tape_library.xp.astype(x, tape_library.xp.float32)
    with pytest.raises(TypeError, match="`mask` must have the dtype of `x`"):
        F.dropout(x, mask=single)
