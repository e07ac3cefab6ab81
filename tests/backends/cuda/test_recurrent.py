"""Recurrent networks against their generic definitions."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_same
from vdcore import kernels
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu

SHAPES = [(1, 1, 1), (1, 2, 3), (4, 1, 33), (3, 5, 1), (5, 3, 3), (3, 2, 260)]
GATES = {"lstm": 4, "gru": 3, "tanh_rnn": 1}


def drawn(rng, *shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(numpy.float32)


def arguments_of(name, rng, shape, bias=True, last_cell=True):
    """Of each kernel; results of forward passes are any numbers of their range."""
    time, batch, units = shape
    network, _, operation = name.rpartition("_")
    network = network.removesuffix("_cell")
    gates = GATES[network]
    z = drawn(rng, time, batch, gates * units, scale=2)
    h, c = drawn(rng, batch, units), drawn(rng, batch, units)
    if "cell" in name:
        kept = numpy.tanh(drawn(rng, batch, 4 * units))
        gc = drawn(rng, batch, units) if last_cell else None
        return {
            "lstm_cell_forward": (z[0], c),
            "lstm_cell_backward": (h, gc, c, c[::-1].copy(), kept),
            "gru_cell_forward": (z[0], z[-1], h),
            "gru_cell_backward": (h, c, kept),
        }[name]
    W = drawn(rng, gates * units, units, scale=units**-0.5)
    weights = (W, drawn(rng, gates * units) if bias else None)[: 1 + (network == "gru")]
    states = (h, c) if network == "lstm" else (h,)
    if operation == "forward":
        return z, *weights, *states
    results = kernels.__dict__[f"{network}_forward"].generic(z, *weights, *states)
    results = results if isinstance(results, tuple) else (results,)
    if operation == "recompute":
        return z, *weights, *states, results[0]
    ghs = drawn(rng, *results[0].shape)
    gc = (drawn(rng, batch, units) if last_cell else None,) * (network == "lstm")
    return ghs, *gc, *weights, *states, *results


KERNELS = [
    f"{network}_{operation}"
    for network in ("lstm", "lstm_cell", "gru", "gru_cell", "tanh_rnn")
    for operation in ("forward", "backward", "recompute")
    if hasattr(kernels, f"{network}_{operation}")
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(cupy_library, rng, name, shape):
    arguments = arguments_of(name, rng, shape)
    assert_same(getattr(kernels, name), cupy_library, *arguments, tolerance=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", KERNELS)
def test_layouts(cupy_library, rng, name, layout):
    arguments = arguments_of(name, rng, (3, 4, 8))
    kernel = getattr(kernels, name)
    assert_same(kernel, cupy_library, *arguments, tolerance=1e-5, layout=layout)


OPTIONAL = "lstm_backward lstm_cell_backward gru_forward gru_backward gru_recompute"


@pytest.mark.parametrize("name", OPTIONAL.split())
def test_without_a_bias_or_gradient_by_the_cell(cupy_library, rng, name):
    arguments = arguments_of(name, rng, (3, 4, 8), bias=False, last_cell=False)
    assert any(x is None for x in arguments)
    assert_same(getattr(kernels, name), cupy_library, *arguments, tolerance=1e-5)


def test_cells_of_all_steps_at_once(cupy_library, rng):
    for name in ("lstm_cell_forward", "gru_cell_forward", "gru_cell_backward"):
        arguments = arguments_of(name, rng, (2, 15, 6))
        stacked = [x.reshape(3, 5, -1) for x in arguments]
        assert_same(getattr(kernels, name), cupy_library, *stacked)


@pytest.mark.parametrize("name", KERNELS)
def test_other_dtypes_go_to_the_definition(cupy_library, rng, name):
    arguments = [
        cupy_library.asarray(x.astype(float))
        for x in arguments_of(name, rng, (2, 3, 4))
    ]
    kernel = getattr(kernels, name)
    ours, expected = kernel(*arguments), kernel.generic(*arguments)
    if not isinstance(ours, tuple):
        ours, expected = (ours,), (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == numpy.float64
        numpy.testing.assert_array_equal(to_numpy(a), to_numpy(b))


@pytest.mark.parametrize("name", KERNELS)
def test_arguments_stay_as_they_are(cupy_library, rng, name):
    arguments = arguments_of(name, rng, (3, 4, 5))
    on_device = [cupy_library.asarray(x) for x in arguments]
    getattr(kernels, name)(*on_device)
    for before, after in zip(arguments, on_device, strict=True):
        numpy.testing.assert_array_equal(to_numpy(after), before)


def test_gates_far_out(cupy_library):
    """Sigmoids of -200 to 200, and of what is not finite."""
    a = numpy.linspace(-200, 200, 4 * 37, dtype=numpy.float32).reshape(1, -1)
    a[0, 5], a[0, 6], a[0, 40] = numpy.nan, numpy.inf, -numpy.inf
    c = numpy.ones((1, 37), numpy.float32)
    assert_same(kernels.lstm_cell_forward, cupy_library, a, c)
    assert_same(kernels.gru_cell_forward, cupy_library, a[:, :111], a[:, 37:], c)
