"""Emulated arrays are as strict as CuPy's."""

from __future__ import annotations

import copy
import pickle

import array_api_compat
import numpy
import pytest

from tests.emulated_cupy import UndefinedBehaviour
from vdcore.arrays import library_name, to_device, to_numpy

pytestmark = pytest.mark.usefixtures("emulation")


@pytest.fixture
def x(cupy):
    return cupy.asarray(numpy.arange(6, dtype=numpy.float32).reshape(2, 3))


def test_libraries_recognise_it(cupy, x):
    assert array_api_compat.is_cupy_array(x)
    assert array_api_compat.array_namespace(x).__name__ == "array_api_compat.cupy"
    assert array_api_compat.device(x) == cupy.cuda.Device(0)
    assert library_name(type(x)) == "cupy"
    assert cupy.get_array_module(x) is cupy
    assert cupy.get_array_module(1) is numpy
    numpy.testing.assert_array_equal(to_numpy(x), numpy.arange(6).reshape(2, 3))
    assert type(to_device(numpy.ones(2), 0)) is cupy.ndarray


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, y: x + y,
        lambda x, y: y + x,
        lambda x, y: x @ y.T,
        lambda x, y: x > y,
        lambda x, y: x.__iadd__(y),
        lambda x, y: numpy.add(x, y),
        lambda x, y: x * numpy.asarray(2.0),
        lambda x, y: x.dot(y.T),
    ],
)
def test_numpy_arrays_are_refused(x, mix):
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy\.ndarray'>"):
        mix(x, numpy.ones((2, 3), numpy.float32))


def test_nothing_becomes_a_numpy_array_by_itself(cupy, x):
    with pytest.raises(TypeError, match="Implicit conversion to a NumPy array"):
        numpy.asarray(x)
    with pytest.raises(TypeError, match="Implicit conversion"):
        numpy.linspace(0, 1, 3)[:] = x[0]
    assert type(numpy.exp(x)) is type(numpy.sum(x)) is cupy.ndarray
    assert type(numpy.float32(2) * x) is cupy.ndarray


def test_numpy_arrays_are_refused_as_values(cupy, x):
    with pytest.raises(ValueError, match=r"non-scalar numpy\.ndarray cannot"):
        x[0] = numpy.ones(3, numpy.float32)
    x[0] = numpy.asarray(7.0)
    x[1] = cupy.ones(3)
    assert x.tolist() == [[7, 7, 7], [1, 1, 1]]


def test_other_objects_may_take_over_operators(x):
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "taken over"

    class Lower:
        def __radd__(self, other):
            return "taken over"

    assert x + Other() == "taken over"
    assert x + Lower() == "taken over"
    with pytest.raises(TypeError):
        x + object()
    with pytest.raises(TypeError):
        x + None


def test_reductions_give_arrays(cupy, x):
    for result in (x.sum(), x.max(), cupy.mean(x), x[0, 1], cupy.argmax(x)):
        assert type(result) is cupy.ndarray
        assert result.shape == ()
    assert (float(x.sum()), int(x.argmax()), bool(x.any())) == (15, 5, True)
    assert x.sum().item() == 15
    with pytest.raises(TypeError, match="integer"):
        range(x.argmax())  # CuPy has no __index__
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)


def test_dtypes(cupy, x):
    assert (x + 1).dtype == (x * 2.0).dtype == numpy.float32
    assert (x + numpy.float64(1)).dtype == numpy.float64
    assert (x > 1).dtype == bool
    assert cupy.zeros(2).dtype == numpy.float64
    for wrong in (["text"], [object()], numpy.zeros(1, numpy.longdouble)):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.asarray(wrong)
    with pytest.raises(TypeError, match="same_kind"):
        cupy.arange(3).__iadd__(1.5)


def test_results_are_c_contiguous_but_for_views_and_copies_that_keep_order(cupy, x):
    assert not x.T.flags.c_contiguous
    assert (x.T + 1).flags.c_contiguous
    assert cupy.exp(x.T).flags.c_contiguous
    assert x.T.copy().flags.c_contiguous
    assert cupy.concatenate([x.T, x.T]).flags.c_contiguous
    for kept in (x.T.astype(float), cupy.empty_like(x.T), cupy.zeros_like(x.T)):
        assert kept.flags.f_contiguous
    assert cupy.zeros((2, 3), order="F").flags.f_contiguous
    assert cupy.ascontiguousarray(x.T).flags.c_contiguous
    assert cupy.ascontiguousarray(x) is x


def test_views_share_memory(cupy, x):
    for view in (x[0], x.T, x.reshape(3, 2), x.ravel(), x[:, None], x[1, 2], x.view()):
        assert view.base is x
        before = view.get()
        x += 1
        numpy.testing.assert_array_equal(view.get(), before + 1)
    assert x[1].data.ptr == x.data.ptr + x.strides[0]
    assert x.base is None
    for new in (x.T.ravel(), x[[0, 1]], x[cupy.asarray([0])], x.flatten(), x.copy()):
        assert not cupy.shares_memory(new, x)
    assert cupy.broadcast_to(x[0], (5, 3)).strides == (0, 4)


def test_new_arrays_hold_nan(cupy):
    assert numpy.isnan(cupy.empty(3, numpy.float32).get()).all()
    assert numpy.isnan(cupy.empty(3).get()).all()


def test_arrays_of_memory_given(cupy, x):
    y = cupy.ndarray((2,), numpy.float32, x.data + 4, strides=(12,))
    assert y.tolist() == [1, 4]
    assert (
        cupy.ndarray((3, 2), numpy.float32, x.data, order="F").T.tolist() == x.tolist()
    )
    with pytest.raises(ValueError, match="memptr is required"):
        cupy.ndarray((2,), strides=(4,))


def test_copies_to_and_from_the_host(cupy, x):
    host = x.get()
    host[0] = 9
    assert x.get()[0, 0] == 0
    x.set(host)
    assert x.get()[0, 0] == 9
    out = numpy.empty((2, 3), numpy.float32)
    assert x.get(out=out) is out
    for wrong, error in (
        (host.astype(float), TypeError),
        (host[0], ValueError),
        (x, TypeError),
    ):
        with pytest.raises(error):
            x.set(wrong)
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, ::2].set(host[:, ::2])
    assert type(cupy.asnumpy(x)) is numpy.ndarray


def test_elements_that_are_read_and_written_are_an_error(x):
    with pytest.raises(UndefinedBehaviour, match="in no order that a device keeps"):
        x[0, 1:] = x[0, :-1]
    x[...] = x
    x[0] = x[1]
    x[0, 1:] = x[0, :-1].copy()


def test_fancy_assignment(cupy, x):
    x[cupy.asarray([0, 1]), cupy.asarray([2, 0])] = cupy.asarray([10.0, 20.0])
    x[x == 1] = -1
    assert x.tolist() == [[0, -1, 10], [20, 4, 5]]
    with pytest.raises(IndexError):
        x[cupy.asarray([2])]  # CuPy would take row 0


def test_copying_and_pickling(cupy, x):
    for other in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(other) is cupy.ndarray
        assert other.tolist() == x.tolist()
        assert not cupy.shares_memory(other, x)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


@pytest.mark.parametrize(
    "name", ["vecdot", "vectorized", "unstack", "asscalar", "nansum2"]
)
def test_names_that_cupy_lacks_are_missing(cupy, name):
    assert not hasattr(cupy, name)


@pytest.mark.parametrize(
    "call",
    [
        lambda cupy, x: cupy.sum(x, where=x > 1),
        lambda cupy, x: cupy.mean(x, where=x > 1),
        lambda cupy, x: cupy.count_nonzero(x, keepdims=True),
        lambda cupy, x: cupy.add(x, 1, where=x > 1),
        lambda cupy, x: cupy.zeros(3, device="cpu"),
        lambda cupy, x: cupy.var(x, correction=1),
        lambda cupy, x: x.sum(where=x > 1),
    ],
)
def test_parameters_that_cupy_lacks_are_errors(cupy, x, call):
    with pytest.raises(TypeError):
        call(cupy, x)
