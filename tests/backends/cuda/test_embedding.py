"""Rows of a table, and the sums of their gradients."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_close, assert_same
from vdcore import kernels
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu

ROWS = 11
COUNTS = (1, 2, 31, 32, 33, 65, 1000, 1024, 1025, 3100)
IDS = {
    "all equal": lambda rng, count: numpy.full(count, 3),
    "two": lambda rng, count: rng.integers(0, 2, count) * (ROWS - 1),
    "few": lambda rng, count: rng.integers(4, 9, count),
    "some out of range": lambda rng, count: rng.integers(-3, ROWS + 3, count),
    "all out of range": lambda rng, count: rng.integers(ROWS, ROWS + 3, count),
}


def drawn(rng, *shape):
    return rng.standard_normal(shape).astype(numpy.float32)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "int16", "uint64"])
@pytest.mark.parametrize("columns", [1, 3, 4, 33, 130])
def test_forward(cupy_library, rng, columns, dtype):
    W = drawn(rng, ROWS, columns)
    for shape in ((), (1,), (7, 5), (3, 1, 2)):
        ids = rng.integers(0, ROWS, shape).astype(dtype)
        assert_same(kernels.embed_forward, cupy_library, W, ids, tolerance=0)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("columns", [1, 3, 4, 33, 130])
def test_backward(cupy_library, rng, columns, dtype):
    W = drawn(rng, ROWS, columns)
    for shape in ((), (1,), (7, 5), (3, 1, 2)):
        ids = rng.integers(0, ROWS, shape).astype(dtype)
        gy = drawn(rng, *shape, columns)
        assert_same(kernels.embed_backward, cupy_library, gy, ids, W)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_sums_of_any_length(cupy_library, rng, ids, count):
    numbers, W = ids(rng, count), drawn(rng, ROWS, 5)
    gy = drawn(rng, count, 5)
    ours = kernels.embed_backward(*map(cupy_library.asarray, (gy, numbers, W)))
    expected = numpy.zeros(W.shape)
    valid = (numbers >= 0) & (numbers < ROWS)
    numpy.add.at(expected, numbers[valid], gy[valid])
    assert_close(ours, expected, tolerance=1e-5, least=1)


def test_rows_of_a_large_table(cupy_library, rng):
    """Most of them are not taken; some go on from piece to piece."""
    W, gy = drawn(rng, 70000, 2), drawn(rng, 5000, 2)
    ids = numpy.minimum(rng.geometric(0.01, 5000) ** 2, 69999)
    assert_same(kernels.embed_forward, cupy_library, W, ids, tolerance=0)
    ours = kernels.embed_backward(*map(cupy_library.asarray, (gy, ids, W)))
    expected = numpy.zeros(W.shape)
    numpy.add.at(expected, ids, gy)
    assert_close(ours, expected, tolerance=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(cupy_library, rng, layout):
    W, gy = drawn(rng, ROWS, 12), drawn(rng, 6, 8, 12)
    ids = rng.integers(0, ROWS, (6, 8))
    assert_same(kernels.embed_forward, cupy_library, W, ids, layout=layout, tolerance=0)
    assert_same(kernels.embed_backward, cupy_library, gy, ids, W, layout=layout)


def test_ids_that_lie_apart(cupy_library, rng):
    W = cupy_library.asarray(drawn(rng, ROWS, 6))
    for dtype in ("int32", "int64"):
        ids = rng.integers(0, ROWS, (7, 10)).astype(dtype)
        on_device = cupy_library.asarray(ids).T[::3]
        y = kernels.embed_forward(W, on_device)
        numpy.testing.assert_array_equal(to_numpy(y), to_numpy(W)[ids.T[::3]])
        ours = kernels.embed_backward(y, on_device, W)
        expected = kernels.embed_backward.generic(
            to_numpy(y).astype(float), ids.T[::3], to_numpy(W)
        )
        assert_close(ours, expected)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_an_id_out_of_range_makes_nan_and_no_gradient(cupy_library, rng, dtype):
    W, least = drawn(rng, ROWS, 6), numpy.iinfo(dtype).min
    ids = numpy.asarray([0, -1, ROWS, ROWS - 1, least, -least - 1], dtype)
    on_device = [cupy_library.asarray(x) for x in (W, ids)]
    y = to_numpy(kernels.embed_forward(*on_device))
    assert numpy.isnan(y).all(axis=1).tolist() == [False, True, True, False, True, True]
    numpy.testing.assert_array_equal(y[[0, 3]], W[[0, -1]])
    gy = cupy_library.asarray(numpy.where(numpy.isnan(y), y, 1))
    gW = to_numpy(kernels.embed_backward(gy, on_device[1], on_device[0]))
    assert gW.sum(axis=1).tolist() == [6, *[0] * (ROWS - 2), 6]


def test_an_id_of_more_than_32_bits_is_out_of_range(cupy_library, rng):
    W, ids = drawn(rng, ROWS, 6), numpy.asarray([2**32 + 3, 1 - 2**32])
    W, ids = (cupy_library.asarray(x) for x in (W, ids))
    y = kernels.embed_forward(W, ids)
    assert numpy.isnan(to_numpy(y)).all()
    assert not to_numpy(kernels.embed_backward(y, ids, W)).any()


def test_other_dtypes_go_to_the_definition(cupy_library, rng):
    W, ids = rng.standard_normal((ROWS, 3)), rng.integers(0, ROWS, 5)
    on_device = [cupy_library.asarray(x) for x in (W, ids)]
    y = kernels.embed_forward(*on_device)
    numpy.testing.assert_array_equal(to_numpy(y), W[ids])
    gW = to_numpy(kernels.embed_backward(y, on_device[1], on_device[0]))
    numpy.testing.assert_allclose(gW, kernels.embed_backward.generic(W[ids], ids, W))


def test_no_ids(cupy_library, rng):
    W = cupy_library.asarray(drawn(rng, ROWS, 3))
    ids = cupy_library.asarray(numpy.zeros(0, numpy.int64))
    y = kernels.embed_forward(W, ids)
    assert y.shape == (0, 3)
    assert not to_numpy(kernels.embed_backward(y, ids, W)).any()
