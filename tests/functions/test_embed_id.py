"""Rows of a table by their numbers."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, is_on_gpu, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 1, 3)], ids=str)
def test_rows(library, rng, shape, kind, dtype):
    W = rng.standard_normal((300, 2)).astype(dtype)
    ids = rng.integers(0, 256, shape).astype(kind)
    y = F.embed_id(library.asarray(ids), library.asarray(W))
    numpy.testing.assert_array_equal(to_numpy(y), W[ids])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (7,), (9, 5)], ids=str)
def test_gradient_is_the_sum_over_places(tape_library, rng, shape, dtype):
    W = rng.standard_normal((6, 3)).astype(dtype)
    ids = rng.integers(0, 5, shape)  # the last row never occurs
    weights = rng.standard_normal((*shape, 3)).astype(dtype)

    def scalar(W):
        y = F.embed_id(tape_library.asarray(ids), W)
        return array_namespace(y).sum(y * tape_library.asarray(weights))

    _, (gradient,) = value_and_gradients(scalar, [tape_library.asarray(W)])
    expected = numpy.zeros((6, 3))
    numpy.add.at(expected, ids, weights)
    assert to_numpy(gradient).dtype == dtype
    numpy.testing.assert_allclose(to_numpy(gradient), expected, rtol=1e-5, atol=1e-5)
    _, (again,) = value_and_gradients(scalar, [tape_library.asarray(W)])
    numpy.testing.assert_array_equal(to_numpy(gradient), to_numpy(again))
    if dtype == "float64":
        ids = tape_library.asarray(ids)
        check_gradients(lambda W: F.embed_id(ids, W), [tape_library.asarray(W)])


@pytest.mark.parametrize("wrong", [-1, 6, 2**31])
def test_out_of_range(tape_library, rng, wrong):
    """An error, or on a GPU NaN: the neighbours stay right either way."""
    W = rng.standard_normal((6, 2))
    ids = tape_library.asarray(numpy.asarray([1, wrong, 5]))
    if not is_on_gpu(ids):
        expected = rf"embed_id: `ids` must lie in 0 \.\. 5 for 6 rows.* {wrong}"
        with pytest.raises(ValueError, match=expected):
            F.embed_id(ids, tape_library.asarray(W))
        return
    y = to_numpy(F.embed_id(ids, tape_library.asarray(W)))
    assert numpy.isnan(y[1]).all()
    numpy.testing.assert_array_equal(y[[0, 2]], W[[1, 5]])


def test_looking_up_does_not_wait_for_a_gpu(cupy, emulation, rng):
    W, ids = cupy.asarray(rng.standard_normal((6, 2))), cupy.asarray([1, 1, 3])
    with emulation.transfers() as moved:
        F.embed_id(ids, W)
    assert moved.to_device == moved.to_host == moved.synchronizations == 0


def test_errors(tape_library, rng):
    W = tape_library.asarray(rng.standard_normal((6, 2)))
    ids = tape_library.asarray(numpy.asarray([1, 2]))
    for error, text, arguments in (
        (TypeError, "embed_id: `ids` must be an array, got list", ([1], W)),
        (TypeError, "embed_id: `W` must be an array, got NoneType", (ids, None)),
        (TypeError, "`ids` must hold integer row numbers, got .*float", (W, W)),
        (
            ValueError,
            r"`W` must have shape \(rows, size\), .*got \(6,\)",
            (ids, W[:, 0]),
        ),
        (ValueError, r"`ids` must hold a number, got shape \(0,\)", (ids[:0], W)),
    ):
        with pytest.raises(error, match=text):
            F.embed_id(*arguments)
