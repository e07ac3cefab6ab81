from __future__ import annotations

import numpy
import pytest

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.cpu import transposition
from vdcore.backends.cpu.transposition import LINE, contiguous


@pytest.mark.parametrize("height", [1, LINE - 1, LINE, 3 * LINE + 1])
@pytest.mark.parametrize("width", [1, LINE - 1, LINE, 2 * LINE + 5])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_matrix_turned_round(rng, monkeypatch, height, width, dtype):
    monkeypatch.setattr(transposition, "LARGE", 0)
    x = (100 * rng.standard_normal((width, height))).astype(dtype).T
    turned = contiguous(x)
    assert turned.flags.c_contiguous
    assert turned.dtype == x.dtype
    numpy.testing.assert_array_equal(turned, x)


def test_what_lies_in_order_is_no_copy(rng):
    x = rng.standard_normal((30, 20)).astype(numpy.float32)
    assert contiguous(x) is x
    numpy.testing.assert_array_equal(contiguous(x[:, ::2]), x[:, ::2])


def test_accuracy_of_scores_in_any_order(rng):
    scores = rng.standard_normal((40, 9000)).astype(numpy.float32)
    t = scores.argmax(axis=1)
    t[:10] += 1
    for x in (scores, numpy.asfortranarray(scores), scores[::-1][::-1]):
        assert kernels.accuracy(x, t) == numpy.float32(0.75)
