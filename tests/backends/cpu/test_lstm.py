"""Fused long short-term memory against its definition in double precision."""

from __future__ import annotations

import numpy
import pytest

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

SIZES = ((1, 1, 1), (1, 2, 3), (3, 1, 17), (4, 7, 33), (2, 6, 64), (3, 20, 650))


def sequence(rng, steps, batch, units):
    """z, W, h, c, and gradients by hs and the last c."""
    shapes = [(steps, batch, 4 * units), (4 * units, units)]
    shapes += [(batch, units)] * 2 + [(steps, batch, units), (batch, units)]
    arrays = [rng.standard_normal(shape).astype(numpy.float32) for shape in shapes]
    arrays[1] *= units**-0.5
    return arrays


def passes(forward, backward, z, W, h, c, ghs, gc):
    hs, cs, gates = forward(z, W, h, c)
    return hs, cs, gates, *backward(ghs, gc, W, h, c, hs, cs, gates)


def fused(*arrays):
    return passes(kernels.lstm_forward, kernels.lstm_backward, *arrays)


def assert_agree(arrays):
    doubles = [None if x is None else x.astype(float) for x in arrays]
    forward, backward = kernels.lstm_forward, kernels.lstm_backward
    expected = passes(forward.generic, backward.generic, *doubles)
    for result, reference in zip(fused(*arrays), expected, strict=True):
        assert result.dtype == numpy.float32
        atol = 5e-6 * max(1, numpy.abs(reference).max())
        numpy.testing.assert_allclose(result, reference, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("size", SIZES)
def test_sequence_of_any_size(rng, size):
    assert_agree(sequence(rng, *size))


def test_no_gradient_by_the_cell(rng):
    assert_agree([*sequence(rng, 3, 5, 20)[:-1], None])


def test_arrays_may_lie_in_any_way(rng):
    arrays = sequence(rng, 3, 5, 20)
    assert_agree([numpy.repeat(x, 2, axis=-1)[..., ::2] for x in arrays])
    assert_agree([numpy.asfortranarray(x) for x in arrays])


def test_saturated_gates(rng):
    arrays = sequence(rng, 3, 2, 17)
    arrays[0] *= 1000
    assert_agree(arrays)


def test_arguments_stay_as_they_are(rng):
    arrays = sequence(rng, 3, 5, 20)
    for x in arrays:
        x.flags.writeable = False
    fused(*arrays)


def test_nan_stays_in_its_example(rng):
    arrays = sequence(rng, 4, 8, 20)
    arrays[0][1, 2, 3] = numpy.nan
    hs = kernels.lstm_forward(*arrays[:4])[0]
    assert numpy.isnan(hs[1, 2, 3])
    assert numpy.isnan(hs[2:, 2]).all()
    assert not numpy.isnan(numpy.delete(hs, 2, axis=1)).any()


def test_results_do_not_depend_on_the_number_of_threads(rng, monkeypatch):
    arrays = sequence(rng, 5, 13, 150)
    results = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("VDCORE_NUM_THREADS", threads)
        results.append(fused(*arrays))
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            numpy.testing.assert_array_equal(first, other)
