from __future__ import annotations

import numpy
import pytest
from scipy.sparse import csr_array

from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse.slices import LANES, TABLE, shares

f4 = numpy.float32


def pruned(rng, shape, density):
    """A matrix whose rows have anything from none to twice so many weights."""
    W = rng.standard_normal(shape, dtype=f4)
    keep = rng.random(shape) < 2 * density * rng.random((shape[0], 1))
    return csr_array(numpy.where(keep, W, f4(0)))


def product(W, full_from, parts, x, b, kernel=None):
    """By the kernel, from all shares one after the other."""
    from vdcore.backends.sparse.slice_kernels import multiply_share

    multiply = kernel or multiply_share
    y = numpy.full(len(b), numpy.nan, f4)
    for each in shares(W, full_from, parts):
        table = numpy.asarray([[each.full, each.slices, len(each.rows), 0, 0, 0, 0]])
        rows, runs = (x.astype(numpy.uint32) for x in (each.rows, each.runs))
        biases = numpy.append(b[rows], numpy.zeros(LANES, f4))
        weights = each.values, each.places
        multiply(0, table, rows, *weights, runs, biases, len(x), x, y)
    return y


needs_numba = pytest.mark.skipif(
    numba_or_none() is None, reason="numba is not installed"
)


@needs_numba
@pytest.mark.parametrize("full_from", [0, 0.4, 2])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(
    ("shape", "density"),
    [
        ((300, TABLE), 0.1),
        ((300, 2 * TABLE), 0.2),
        ((70, 3 * TABLE + 5), 0.1),
        ((70, 5), 0.5),
        ((LANES + 1, TABLE + 1), 1),
        ((3, 40), 0.5),
        ((40, 40), 0),
        ((40, 0), 0),
        ((0, 40), 0),
    ],
)
def test_product_is_that_of_the_matrix(rng, shape, density, parts, full_from):
    W = pruned(rng, shape, density)
    x, b = (rng.standard_normal(size, dtype=f4) for size in shape[::-1])
    y = product(W, full_from, parts, x, b)
    expected = W.astype(float) @ x + b
    numpy.testing.assert_allclose(y, expected, atol=1e-5 * max(1, shape[1]) ** 0.5)


@needs_numba
def test_processors_without_permutations_of_registers(rng, monkeypatch):
    from vdcore.backends.cpu.jit import jit
    from vdcore.backends.sparse import slice_kernels

    monkeypatch.setattr(slice_kernels, "PICKS_FROM_REGISTERS", False)
    kernel = jit(cache=False)(slice_kernels.multiply_share.function)
    W = pruned(rng, (70, 3 * TABLE + 5), 0.1)
    x, b = (rng.standard_normal(size, dtype=f4) for size in W.shape[::-1])
    expected = W.astype(float) @ x + b
    numpy.testing.assert_allclose(product(W, 2, 2, x, b, kernel), expected, atol=1e-4)
    (code,) = kernel.compiled.inspect_asm().values()
    assert "vpermt2ps" not in code
    assert "vpermi2ps" not in code


def test_rows_that_are_alike_share_a_slice(rng):
    # Each row's weights are in one of two tables.
    in_first = numpy.arange(8 * LANES) % 2 == 0
    keep = numpy.empty((len(in_first), 2 * TABLE), bool)
    keep[:, :TABLE], keep[:, TABLE:] = in_first[:, None], ~in_first[:, None]
    (share,) = shares(csr_array(keep.astype(f4)), 2, 1)
    assert len(share.values) == keep.sum()


def test_shares_are_of_consecutive_rows_and_about_as_many_weights(rng):
    W = pruned(rng, (2000, 200), 0.2)
    divided = shares(W, 2, 4)
    assert len(divided) == 4
    for share in divided:
        rows = numpy.sort(share.rows)
        numpy.testing.assert_array_equal(rows, numpy.arange(rows[0], rows[-1] + 1))
        assert rows[0] % LANES == 0
        assert abs(W[rows].nnz / W.nnz - 1 / 4) < 0.01


def test_full_rows_are_stored_without_places():
    W = numpy.eye(4, 3, dtype=f4)
    W[1] = 2
    (share,) = shares(csr_array(W), 0.9, 1)
    assert (share.full, share.rows[0]) == (1, 1)
    numpy.testing.assert_array_equal(share.values[:3], W[1])
    assert len(share.places) == len(share.values) - 3
