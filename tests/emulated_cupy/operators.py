"""Operators of ``cupy.ndarray``, and those of its methods that are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from tests.emulated_cupy.array import SCALARS, call, computed, ndarray, update

BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
}
NEVER_IN_PLACE = {"matmul": "matmul", "divmod": "divmod"}
COMPARISONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}
UNARY = {"neg": "negative", "abs": "absolute", "invert": "invert"}
METHODS = {  # and the parameters that CuPy's have
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis out keepdims",
    "argmin": "axis out keepdims",
    "argsort": "axis",
    "clip": "min max out",
    "conj": "",
    "conjugate": "",
    "cumprod": "axis dtype out",
    "cumsum": "axis dtype out",
    "max": "axis out keepdims",
    "mean": "axis dtype out keepdims",
    "min": "axis out keepdims",
    "prod": "axis dtype out keepdims",
    "repeat": "repeats axis",
    "round": "decimals out",
    "searchsorted": "v side sorter",
    "std": "axis dtype out ddof keepdims",
    "sum": "axis dtype out keepdims",
    "take": "indices axis out",
    "trace": "offset axis1 axis2 dtype out",
    "var": "axis dtype out ddof keepdims",
}


def define() -> None:
    """Give the class its operators and methods."""
    for symbol, name in BINARY.items():
        forward, reflected, in_place = _binary(name)
        setattr(ndarray, f"__{symbol}__", forward)
        setattr(ndarray, f"__r{symbol}__", reflected)
        setattr(ndarray, f"__i{symbol}__", in_place)
    for symbol, name in NEVER_IN_PLACE.items():
        forward, reflected, _ = _binary(name)
        setattr(ndarray, f"__{symbol}__", forward)
        setattr(ndarray, f"__r{symbol}__", reflected)
    for symbol, name in COMPARISONS.items():
        setattr(ndarray, f"__{symbol}__", _binary(name)[0])
    for symbol, name in UNARY.items():
        setattr(ndarray, f"__{symbol}__", _unary(name))
    for name, parameters in METHODS.items():
        setattr(ndarray, name, _method(name, parameters.split()))


def _binary(name: str) -> tuple[Callable, Callable, Callable]:
    function = getattr(numpy, name)

    def forward(self: ndarray, other: Any) -> Any:
        if _defers(self, other) or not _is_known(other):
            return NotImplemented
        return computed(function, self, other)

    def reflected(self: ndarray, other: Any) -> Any:
        return computed(function, other, self) if _is_known(other) else NotImplemented

    def in_place(self: ndarray, other: Any) -> ndarray:
        if not _is_known(other):
            message = f"Unsupported type {type(other)}"
            raise TypeError(message)
        update(self, lambda x, y: function(x, y, out=x), other)
        return self

    return forward, reflected, in_place


def _is_known(x: Any) -> bool:
    """Whether to take an operand, if only to refuse it by an error of one's own."""
    return isinstance(x, ndarray | SCALARS | numpy.ndarray)


def _defers(x: ndarray, other: Any) -> bool:
    """Whether an operator leaves the work to the other operand (NEP 13)."""
    if isinstance(other, ndarray | SCALARS):
        return False
    try:
        return other.__array_ufunc__ is None
    except AttributeError:
        return getattr(other, "__array_priority__", 0) > x.__array_priority__


def _unary(name: str) -> Callable:
    function = getattr(numpy, name)
    return lambda self: computed(function, self)


def _method(name: str, parameters: list[str]) -> Callable:
    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        given = dict(zip(parameters, args, strict=False)) | kwargs
        if len(args) > len(parameters) or not given.keys() <= set(parameters):
            message = f"cupy.ndarray.{name} takes ({', '.join(parameters)})"
            raise TypeError(message)
        return call(lambda x, **kw: getattr(x, name)(**kw), self, **given)

    method.__name__ = name
    return method
