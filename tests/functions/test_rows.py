"""Vectors as rows, against NumPy."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import to_numpy
from vdcore.testing import check_gradients


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 2, 3), (1, 4, 2, 3)])
def test_rows(library, rng, shape):
    x = rng.standard_normal(shape).astype(numpy.float32)
    y = to_numpy(F.rows(library.asarray(x)))
    numpy.testing.assert_array_equal(y, x.reshape(-1, 3))
    assert y.dtype == numpy.float32


def test_gradients_of_rows(tape_library, rng):
    x = tape_library.asarray(rng.standard_normal((2, 3, 4)))
    check_gradients(F.rows, [x])


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_shapes_without_vectors_are_refused(shape):
    with pytest.raises(ValueError, match="rows: `x` must have shape"):
        F.rows(numpy.zeros(shape))


def test_what_is_no_array_is_refused():
    with pytest.raises(TypeError, match="rows: `x` must be an array, got list"):
        F.rows([[1.0]])
