"""vdcore.arrays: namespaces, host copies, devices."""

from __future__ import annotations

import sys

import array_api_compat.numpy
import numpy
import pytest

from tests import emulated_cupy
from tests.conftest import HAS_GPU, make_library
from vdcore.arrays import (
    array_namespace,
    asarray_like,
    is_array,
    is_traced,
    library_name,
    to_device,
    to_numpy,
    untraced,
)
from vdcore.autodiff import value_and_gradients
from vdcore.testing import stand_in_namespace


def test_namespace_is_that_of_the_arrays(library):
    x = library.asarray([1.0, 2.0])
    xp = array_namespace(None, x, 2.0, x)
    assert xp is library.xp
    numpy.testing.assert_allclose(
        to_numpy(xp.exp(x)), numpy.exp([1.0, 2.0]), rtol=1e-15
    )


def test_numpy_scalars_are_of_numpy():
    xp = array_namespace(numpy.float32(2), numpy.ones(3))
    assert xp is array_api_compat.numpy


def test_no_array_is_refused():
    with pytest.raises(TypeError, match=r"array_namespace: .* got \(float, NoneType\)"):
        array_namespace(1.0, None)


def test_mixed_libraries_are_refused_by_name(library):
    if library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    x = library.asarray(numpy.ones(2, numpy.float32))
    names = sorted(["numpy", library_name(type(x))])
    with pytest.raises(TypeError, match=f"one library, got {names[0]} and {names[1]}"):
        array_namespace(x, numpy.ones(2, numpy.float32))


def test_namespace_of_a_traced_array_is_differentiable(tape_library):
    def function(x):
        assert is_traced(x)
        xp = array_namespace(x, untraced(x))
        assert xp is not tape_library.xp
        return xp.sum(xp.exp(x))

    x = tape_library.asarray([0.5, -1.0])
    _, (gradient,) = value_and_gradients(function, [x])
    numpy.testing.assert_allclose(to_numpy(gradient), numpy.exp([0.5, -1]), rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_to_numpy_and_back(library, dtype):
    values = numpy.asarray([[0, 1, 1], [1, 0, 1]], dtype)
    x = library.asarray(values)
    host = to_numpy(x)
    assert type(host) is numpy.ndarray
    assert host.dtype == values.dtype
    numpy.testing.assert_array_equal(host, values)
    again = asarray_like(host, x)
    assert type(again) is type(x)
    assert again.dtype == x.dtype


def test_to_numpy_takes_off_the_tape(tape_library):
    seen = []

    def function(x):
        seen.append(to_numpy(x))
        return array_namespace(x).sum(x)

    value_and_gradients(function, [tape_library.asarray([1.0, 2.0])])
    assert type(seen[0]) is numpy.ndarray
    numpy.testing.assert_array_equal(seen[0], [1, 2])


def test_to_device_cpu_gives_an_array_that_can_be_written(library):
    x = to_device(library.asarray([1.0, 2.0]), "cpu")
    assert type(x) is numpy.ndarray
    if library.name == "jax":
        pytest.skip("arrays of JAX are immutable, and shared with the host")
    x[0] = 3.0


def test_to_device_none_leaves_the_array(library):
    x = library.asarray([1.0])
    assert to_device(x, None) is x


@pytest.mark.parametrize("device", ["gpu", -1, 1.5, True, "cuda:x"])
def test_to_device_refuses_other_names(device):
    with pytest.raises(ValueError, match="to_device: `device` must be None"):
        to_device(numpy.ones(1), device)


@pytest.mark.parametrize("device", [0, "cuda:1", "3"])
def test_to_device_without_cupy_says_how_to_get_it(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"CuPy is not installed.*vdcore\[cuda13\]"):
        to_device(numpy.ones(1), device)


@pytest.mark.skipif(HAS_GPU, reason="other numbers are those of the emulated CuPy")
def test_a_gpu_that_is_not_there_is_named():
    cupy = make_library("cupy").xp
    assert isinstance(to_device(numpy.ones(2), "cuda:0"), cupy.ndarray)
    message = "one of the 1 GPUs of this machine, 0 to 0, got 7"
    with pytest.raises(ValueError, match=message):
        to_device(numpy.ones(2), 7)
    no_gpu = pytest.raises(RuntimeError, match="CuPy is installed but no GPU is usable")
    with emulated_cupy.device_count(0), no_gpu:
        to_device(numpy.ones(2), 0)


def test_is_array():
    assert is_array(numpy.ones(2))
    assert is_array(numpy.float32(1))
    assert not is_array(1.0)
    assert not is_array([1.0])
    assert not is_array(numpy.float32)  # has both attributes, as a class


def test_stand_in_refuses_numpy_from_both_sides():
    x = stand_in_namespace.asarray([1.0, 2.0])
    y = numpy.ones(2)
    for operation in (
        lambda: x + y,
        lambda: y + x,
        lambda: x @ y,
        lambda: y @ x,
        lambda: stand_in_namespace.add(x, y),
        lambda: numpy.asarray(x),
        lambda: numpy.exp(y, out=x),
        lambda: numpy.sum(x),
    ):
        with pytest.raises(TypeError):
            operation()


def test_stand_in_takes_scalars_and_keeps_float32():
    x = stand_in_namespace.asarray(numpy.asarray([1, 2], numpy.float32))
    for y in (x * 2, 2.5 * x, x + numpy.float32(1), numpy.float32(1) - x, x / 3):
        assert type(y) is type(x)
        assert y.dtype == numpy.float32
    total = stand_in_namespace.sum(x)
    assert type(total) is type(x)
    assert total.shape == ()
    assert float(total) == 3.0


def test_stand_in_has_no_names_outside_the_standard():
    for name in ("dot", "ravel", "transpose", "float16", "asnumpy"):
        assert not hasattr(stand_in_namespace, name)
