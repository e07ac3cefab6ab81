"""Every differentiable function of the namespace, on every library of the tape."""

from __future__ import annotations

import numpy
import pytest

from vdcore.arrays import array_namespace, to_numpy, untraced
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

# Of a namespace, an array with entries in [-2, 2] and a positive one.
FUNCTIONS = {
    "exp": lambda xp, x, y: xp.exp(x),
    "log": lambda xp, x, y: xp.log(y),
    "log1p": lambda xp, x, y: xp.log1p(y),
    "expm1": lambda xp, x, y: xp.expm1(x),
    "tanh": lambda xp, x, y: xp.tanh(x),
    "sqrt": lambda xp, x, y: xp.sqrt(y),
    "square": lambda xp, x, y: xp.square(x),
    "abs": lambda xp, x, y: xp.abs(x),
    "negative": lambda xp, x, y: xp.negative(x),
    "add": lambda xp, x, y: xp.add(x, y),
    "subtract": lambda xp, x, y: xp.subtract(x, y),
    "multiply": lambda xp, x, y: xp.multiply(x, y),
    "divide": lambda xp, x, y: xp.divide(x, y),
    "pow": lambda xp, x, y: xp.pow(y, x),
    "matmul": lambda xp, x, y: xp.matmul(x, xp.matrix_transpose(y)),
    "sum": lambda xp, x, y: xp.sum(x),
    "sum over axis": lambda xp, x, y: xp.sum(x, axis=1) + xp.sum(y, axis=-1),
    "sum over axes": lambda xp, x, y: xp.sum(x, axis=(0, 1)),
    "sum keepdims": lambda xp, x, y: xp.sum(x, axis=0, keepdims=True) * y,
    "mean": lambda xp, x, y: xp.mean(x) * y,
    "mean over axis": lambda xp, x, y: xp.mean(x, axis=0),
    "mean keepdims": lambda xp, x, y: xp.mean(x, axis=(0, 1), keepdims=True) * x,
    "max": lambda xp, x, y: xp.max(x),
    "max over axis": lambda xp, x, y: xp.max(x, axis=1) * xp.max(y, axis=-1),
    "max keepdims": lambda xp, x, y: xp.max(x, axis=1, keepdims=True) - x,
    "reshape": lambda xp, x, y: xp.reshape(x, (3, 2)),
    "permute_dims": lambda xp, x, y: xp.permute_dims(
        xp.reshape(x, (1, 2, 3)), (2, 0, 1)
    ),
    "matrix_transpose": lambda xp, x, y: xp.matrix_transpose(x),
    "broadcast_to": lambda xp, x, y: xp.broadcast_to(x, (4, 2, 3)),
    "expand_dims": lambda xp, x, y: xp.expand_dims(x, axis=1),
    "squeeze": lambda xp, x, y: xp.squeeze(xp.expand_dims(x, axis=1), axis=1),
    "astype": lambda xp, x, y: xp.astype(x, xp.float64) * y,
    "where": lambda xp, x, y: xp.where(x > 0, x, y),
    "where zero": lambda xp, x, y: xp.where(x > 0, x * y, xp.zeros_like(x)),
    "maximum": lambda xp, x, y: xp.maximum(x, y),
    "maximum number": lambda xp, x, y: xp.maximum(x, 0),
    "minimum": lambda xp, x, y: xp.minimum(x, y),
    "clip": lambda xp, x, y: xp.clip(x, -1.0, 1.0),
    "getitem": lambda xp, x, y: x[:, 1],
    "getitem row": lambda xp, x, y: x[0, ...] * y[-1, ...],
    "concat": lambda xp, x, y: xp.concat([x, y, x * 2], axis=1),
    "stack": lambda xp, x, y: xp.stack([x, y], axis=1),
    "softmax": lambda xp, x, y: xp.exp(x) / xp.sum(xp.exp(x), axis=1, keepdims=True),
}
X = numpy.asarray([[-1.7, 0.4, 1.3], [0.8, -0.6, 1.9]])
Y = numpy.asarray([[0.7, 1.1, 0.5], [1.8, 0.9, 0.6]])


def applied(name):
    def function(x, y):
        return FUNCTIONS[name](array_namespace(x, y), x, y)

    return function


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_gradients(tape_library, name):
    check_gradients(applied(name), [tape_library.asarray(v) for v in (X, Y)])


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "astype"])
def test_float32_stays(tape_library, name):
    arrays = [tape_library.asarray(v.astype(numpy.float32)) for v in (X, Y)]

    def scalar(x, y):
        result = applied(name)(x, y)
        assert untraced(result).dtype == tape_library.xp.float32
        return array_namespace(result).sum(result)

    value, gradients = value_and_gradients(scalar, arrays)
    assert value.dtype == tape_library.xp.float32
    for array, gradient in zip(arrays, gradients, strict=True):
        assert type(gradient) is type(array)
        assert gradient.dtype == array.dtype


def test_astype_gives_the_gradient_in_the_first_dtype(tape_library):
    x = tape_library.asarray(X.astype(numpy.float32))

    def function(x):
        xp = array_namespace(x)
        return xp.sum(xp.square(xp.astype(x, xp.float64)))

    value, (gradient,) = value_and_gradients(function, [x])
    assert value.dtype == tape_library.xp.float64
    assert gradient.dtype == tape_library.xp.float32
    numpy.testing.assert_allclose(to_numpy(gradient), 2 * X, rtol=1e-6)


def test_ties_share_the_slope_of_max(tape_library):
    x = tape_library.asarray([2.0, 1.0, 2.0])
    _, (gradient,) = value_and_gradients(lambda x: array_namespace(x).max(x), [x])
    assert to_numpy(gradient).tolist() == [0.5, 0, 0.5]


def test_where_takes_no_gradient_from_the_branch_not_taken(tape_library):
    """The slope of log at 0 is infinite, and 0 times it would be NaN."""
    x = tape_library.asarray([0.0, 2.0])

    def function(x):
        xp = array_namespace(x)
        one = xp.ones_like(x)
        return xp.sum(xp.where(x > 0, xp.log(xp.where(x > 0, x, one)), one))

    _, (gradient,) = value_and_gradients(function, [x])
    assert to_numpy(gradient).tolist() == [0, 0.5]


def test_constant_functions_leave_the_tape(tape_library):
    def function(x):
        xp = array_namespace(x)
        for constant in (
            xp.sign(x),
            xp.argmax(x, axis=1),
            xp.ones_like(x),
            xp.isnan(x),
            xp.count_nonzero(x),
            xp.greater(x, 0.5),
        ):
            assert constant is untraced(constant)
        return xp.sum(x * xp.sign(x))

    x = tape_library.asarray(X)
    _, (gradient,) = value_and_gradients(function, [x])
    numpy.testing.assert_array_equal(to_numpy(gradient), numpy.sign(X))


def test_makers_and_dtypes_are_passed_on(tape_library):
    def function(x):
        xp = array_namespace(x)
        assert xp.finfo(x.dtype).bits == 64
        assert xp.isdtype(x.dtype, "real floating")
        return xp.sum(x * xp.zeros((2, 3), dtype=xp.float64)) + xp.pi

    value, _ = value_and_gradients(function, [tape_library.asarray(X)])
    assert float(value) == pytest.approx(numpy.pi)
