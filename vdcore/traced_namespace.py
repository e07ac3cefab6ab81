"""The array API, differentiable: its functions as primitives of the tape.

Each primitive calls the function of the raw arrays' own library, and each derivative
is written with the same primitives and Python scalars, so nothing of another library
enters and float32 stays float32.
"""

from __future__ import annotations

import math
import operator
from functools import cache
from types import SimpleNamespace
from typing import Any

from autograd.core import VJPNode
from autograd.extend import defvjp, defvjp_argnum, primitive, register_notrace

from vdcore.arrays import array_namespace, is_array


def _function(name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(array_namespace(*args), name)(*args, **kwargs)

    call.__name__ = name
    return primitive(call)


def _operation(name: str, function: Any) -> Any:
    def call(x: Any, y: Any) -> Any:
        return function(x, y)

    call.__name__ = name
    return primitive(call)


_NAMES = (
    "exp log log1p expm1 tanh sqrt square abs negative sum mean max reshape "
    "permute_dims matrix_transpose broadcast_to expand_dims squeeze astype where "
    "maximum minimum clip"
).split()
_CONSTANT_NAMES = (
    "sign isfinite isnan argmax argmin zeros_like ones_like full_like count_nonzero "
    "any all equal not_equal less less_equal greater greater_equal logical_and "
    "logical_or logical_not floor ceil round"
).split()
_PASSED_ON = (
    "float16 float32 float64 int8 int16 int32 int64 uint8 bool finfo iinfo isdtype "
    "result_type can_cast pi e inf nan newaxis zeros ones full arange eye empty"
).split()

p = SimpleNamespace(
    **{name: _function(name) for name in _NAMES + _CONSTANT_NAMES},
    add=_operation("add", operator.add),
    subtract=_operation("subtract", operator.sub),
    multiply=_operation("multiply", operator.mul),
    divide=_operation("divide", operator.truediv),
    pow=_operation("pow", operator.pow),
    matmul=_operation("matmul", operator.matmul),
    getitem=_operation("getitem", operator.getitem),
)
for _name in _CONSTANT_NAMES:
    register_notrace(VJPNode, getattr(p, _name))


@primitive
def _put_into_zeros(g: Any, x: Any, index: Any) -> Any:
    out = array_namespace(x).zeros_like(x)
    out[index] = g
    return out


@primitive
def _concat(axis: int, *arrays: Any) -> Any:
    return array_namespace(*arrays).concat(list(arrays), axis=axis)


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))


def _reduced_to(x: Any, g: Any) -> Any:
    """Sum a gradient back to the shape that was broadcast to its own."""
    shape, given = _shape(x), _shape(g)
    if shape == given:
        return g
    lead = len(given) - len(shape)
    stretched = (
        i + lead for i, n in enumerate(shape) if n == 1 and given[i + lead] != 1
    )
    axes = (*range(lead), *stretched)
    return p.reshape(p.sum(g, axis=axes) if axes else g, shape)


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = (axis,) if isinstance(axis, int) else axis
    return tuple(a % ndim for a in axes)


def _kept(x: Any, axis: Any) -> tuple[int, ...]:
    axes = _axes(axis, len(_shape(x)))
    return tuple(1 if i in axes else n for i, n in enumerate(_shape(x)))


def _count(x: Any, axis: Any) -> int:
    return math.prod(_shape(x)[i] for i in _axes(axis, len(_shape(x))))


def _each(*rules: Any) -> list[Any]:
    """Derivative rules for broadcasting arguments: reduce each to its argument."""

    def rule(position: int, gradient: Any) -> Any:
        def make(ans: Any, *args: Any) -> Any:
            x = args[position]
            return lambda g: _reduced_to(x, gradient(g, ans, *args))

        return make

    return [rule(i, gradient) for i, gradient in enumerate(rules)]


defvjp(p.add, *_each(lambda g, ans, x, y: g, lambda g, ans, x, y: g))
defvjp(p.subtract, *_each(lambda g, ans, x, y: g, lambda g, ans, x, y: -g))
defvjp(p.multiply, *_each(lambda g, ans, x, y: g * y, lambda g, ans, x, y: g * x))
defvjp(
    p.divide, *_each(lambda g, ans, x, y: g / y, lambda g, ans, x, y: -g * (ans / y))
)
defvjp(
    p.pow,
    *_each(
        lambda g, ans, x, y: g * (y * x ** (y - 1)),
        lambda g, ans, x, y: g * (ans * (p.log(x) if is_array(x) else math.log(x))),
    ),
)
defvjp(
    p.maximum,
    *_each(
        lambda g, ans, x, y: p.where(x >= y, g, p.zeros_like(g)),
        lambda g, ans, x, y: p.where(x >= y, p.zeros_like(g), g),
    ),
)
defvjp(
    p.minimum,
    *_each(
        lambda g, ans, x, y: p.where(x <= y, g, p.zeros_like(g)),
        lambda g, ans, x, y: p.where(x <= y, p.zeros_like(g), g),
    ),
)
defvjp(
    p.where,
    None,
    *_each(
        lambda g, ans, c, x, y: g,  # argument 0 is never traced: masks have no slope
        lambda g, ans, c, x, y: p.where(c, g, p.zeros_like(g)),
        lambda g, ans, c, x, y: p.where(c, p.zeros_like(g), g),
    )[1:],
)
defvjp(p.negative, lambda ans, x: lambda g: -g)
defvjp(p.exp, lambda ans, x: lambda g: g * ans)
defvjp(p.log, lambda ans, x: lambda g: g / x)
defvjp(p.log1p, lambda ans, x: lambda g: g / (x + 1))
defvjp(p.expm1, lambda ans, x: lambda g: g * (ans + 1))
defvjp(p.tanh, lambda ans, x: lambda g: g * (1 - ans * ans))
defvjp(p.sqrt, lambda ans, x: lambda g: g * 0.5 / ans)
defvjp(p.square, lambda ans, x: lambda g: g * x * 2)
defvjp(p.abs, lambda ans, x: lambda g: g * p.sign(x))
defvjp(
    p.clip,
    lambda ans, x, low=None, high=None, /, **kwargs: (
        lambda g: p.where(ans == x, g, p.zeros_like(g))
    ),
)
defvjp(
    p.sum,
    lambda ans, x, axis=None, keepdims=False: (
        lambda g: p.broadcast_to(p.reshape(g, _kept(x, axis)), _shape(x))
    ),
)
defvjp(
    p.mean,
    lambda ans, x, axis=None, keepdims=False: (
        lambda g: p.broadcast_to(
            p.reshape(g, _kept(x, axis)) / _count(x, axis), _shape(x)
        )
    ),
)


def _max_vjp(ans: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    def vjp(g: Any) -> Any:
        kept = _kept(x, axis)
        top = p.astype(x == p.reshape(ans, kept), x.dtype)
        ties = p.sum(top, axis=axis, keepdims=True)
        return top / p.reshape(ties, kept) * p.reshape(g, kept)

    return vjp


defvjp(p.max, _max_vjp)
defvjp(p.reshape, lambda ans, x, shape: lambda g: p.reshape(g, _shape(x)))
defvjp(
    p.permute_dims,
    lambda ans, x, axes: (
        lambda g: p.permute_dims(g, tuple(axes.index(i) for i in range(len(axes))))
    ),
)
defvjp(p.matrix_transpose, lambda ans, x: lambda g: p.matrix_transpose(g))
defvjp(p.broadcast_to, lambda ans, x, shape: lambda g: _reduced_to(x, g))
defvjp(p.expand_dims, lambda ans, x, axis=0: lambda g: p.reshape(g, _shape(x)))
defvjp(p.squeeze, lambda ans, x, axis=None: lambda g: p.reshape(g, _shape(x)))
defvjp(p.astype, lambda ans, x, dtype, **kw: lambda g: p.astype(g, x.dtype))
defvjp(
    p.matmul,
    lambda ans, x, y: lambda g: p.matmul(g, p.matrix_transpose(y)),
    lambda ans, x, y: lambda g: p.matmul(p.matrix_transpose(x), g),
)
defvjp(p.getitem, lambda ans, x, index: lambda g: _put_into_zeros(g, x, index))
defvjp(_put_into_zeros, lambda ans, g, x, index: lambda h: p.getitem(h, index))


def _concat_vjp(argnum: int, ans: Any, args: Any, kwargs: Any) -> Any:
    axis, arrays = args[0], args[1:]
    k = argnum - 1
    start = sum(_shape(x)[axis] for x in arrays[:k])
    index: list[Any] = [slice(None)] * len(_shape(ans))
    index[axis] = slice(start, start + _shape(arrays[k])[axis])
    return lambda g: p.getitem(g, tuple(index))


defvjp_argnum(_concat, _concat_vjp)


def concat(arrays: Any, /, *, axis: int = 0) -> Any:
    """Join arrays along an existing axis."""
    return _concat(axis, *arrays)


def stack(arrays: Any, /, *, axis: int = 0) -> Any:
    """Join arrays along a new axis."""
    return concat([p.expand_dims(x, axis=axis) for x in arrays], axis=axis)


@cache
def traced_namespace(xp: Any) -> SimpleNamespace:
    """The differentiable namespace of a library: primitives, its dtypes and makers."""
    passed_on = {name: getattr(xp, name) for name in _PASSED_ON if hasattr(xp, name)}
    return SimpleNamespace(**passed_on, **vars(p), concat=concat, stack=stack)
