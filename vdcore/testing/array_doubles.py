"""Arrays that behave as a GPU library's do, for machines without a GPU.

What goes wrong with CuPy arrays, a mixed-in NumPy array or a conversion behind the
user's back, goes wrong with a :class:`StandInArray` in the same way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy

from vdcore.autodiff import register_array_type

DEVICE = "stand-in:0"

# Of the array API standard (2024.12), main namespace.
FUNCTIONS = (
    "abs acos acosh add all any arange argmax argmin argsort asarray asin asinh "
    "astype atan atan2 atanh bitwise_and bitwise_invert bitwise_left_shift bitwise_or "
    "bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to can_cast ceil clip "
    "concat conj copysign cos cosh count_nonzero cumulative_prod cumulative_sum diff "
    "divide empty empty_like equal exp expand_dims expm1 eye finfo flip floor "
    "floor_divide full full_like greater greater_equal hypot iinfo imag isdtype "
    "isfinite isinf isnan less less_equal linspace log log10 log1p log2 logaddexp "
    "logical_and logical_not logical_or logical_xor matmul matrix_transpose max "
    "maximum mean meshgrid min minimum moveaxis multiply negative nextafter nonzero "
    "not_equal ones ones_like permute_dims positive pow prod real reciprocal "
    "remainder repeat reshape result_type roll round searchsorted sign signbit sin "
    "sinh sort sqrt square squeeze stack std subtract sum take take_along_axis tan "
    "tanh tensordot tile tril triu trunc unique_all unique_counts unique_inverse "
    "unique_values unstack var vecdot where zeros zeros_like"
).split()
CONSTANTS = (
    "bool complex64 complex128 e float32 float64 inf int8 int16 int32 int64 nan "
    "newaxis pi uint8 uint16 uint32 uint64"
).split()


class StandInArray:
    """An array that is no ``numpy.ndarray`` and takes none as an operand, as CuPy's.

    Make one with ``stand_in_namespace.asarray``. Reductions return 0-d arrays, never
    NumPy scalars; only :meth:`get` gives a NumPy array. It has no array methods such as
    ``mean``: code for any library takes functions from the namespace.

    Examples
    --------
    >>> x = stand_in_namespace.asarray([1.0, 2.0])
    >>> stand_in_namespace.sum(x * 2).get()
    array(6.)
    >>> x * numpy.ones(2)
    Traceback (most recent call last):
        ...
    TypeError: Unsupported type <class 'numpy.ndarray'>
    """

    __slots__ = ("_data",)
    __hash__ = None  # type: ignore[assignment]

    shape = property(lambda self: self._data.shape)
    dtype = property(lambda self: self._data.dtype)
    ndim = property(lambda self: self._data.ndim)
    size = property(lambda self: self._data.size)
    T = property(lambda self: StandInArray(self._data.T))
    device = property(lambda self: DEVICE)

    def __init__(self, data: numpy.ndarray) -> None:
        self._data = data

    def get(self) -> numpy.ndarray:
        """A copy on the host."""
        return self._data.copy()

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        message = (
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )
        raise TypeError(message)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        if method != "__call__" or kw:
            return NotImplemented
        return _wrapped(ufunc(*map(_unwrapped, inputs)))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return stand_in_namespace

    def __getitem__(self, index: Any) -> StandInArray:
        return StandInArray(numpy.asarray(self._data[_unwrapped(index)]))

    def __setitem__(self, index: Any, value: Any) -> None:
        self._data[_unwrapped(index)] = _unwrapped(value)

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __index__(self) -> int:
        return operator.index(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __repr__(self) -> str:
        return f"StandInArray({self._data!r})"


def _unwrapped(x: Any) -> Any:
    """The NumPy data inside; NumPy arrays themselves are refused."""
    if isinstance(x, StandInArray):
        return x._data
    if isinstance(x, tuple | list):
        return type(x)(map(_unwrapped, x))
    if isinstance(x, numpy.ndarray):
        message = f"Unsupported type {type(x)}"
        raise TypeError(message)
    return x


def _wrapped(x: Any) -> Any:
    if isinstance(x, numpy.ndarray | numpy.generic):
        return StandInArray(numpy.asarray(x))
    if isinstance(x, tuple | list):
        return type(x)(map(_wrapped, x)) if type(x) in (tuple, list) else x
    return x


def _binary(function: Callable) -> tuple[Callable, Callable]:
    def forward(self: StandInArray, other: Any) -> StandInArray:
        if getattr(other, "__array_ufunc__", other) is None:
            return NotImplemented  # NumPy's protocol: the other one's turn
        return _wrapped(function(self._data, _unwrapped(other)))

    def reflected(self: StandInArray, other: Any) -> StandInArray:
        return _wrapped(function(_unwrapped(other), self._data))

    return forward, reflected


def _unary(function: Callable) -> Callable:
    return lambda self: _wrapped(function(self._data))


for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    _function = getattr(operator, f"__{_name}__")
    _forward, _reflected = _binary(_function)
    setattr(StandInArray, f"__{_name}__", _forward)
    setattr(StandInArray, f"__r{_name}__", _reflected)
for _name in "eq ne lt le gt ge".split():
    _forward, _ = _binary(getattr(operator, f"__{_name}__"))
    setattr(StandInArray, f"__{_name}__", _forward)
for _name in "neg pos abs invert".split():
    setattr(StandInArray, f"__{_name}__", _unary(getattr(operator, f"__{_name}__")))


def _function_of_namespace(name: str) -> Callable:
    function = getattr(numpy, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        device = kwargs.pop("device", None)
        if device not in (None, DEVICE):
            message = f"{name}: `device` must be None or {DEVICE!r}, got {device!r}"
            raise ValueError(message)
        if name == "asarray" and isinstance(args[0], numpy.ndarray):
            args = (args[0].copy(), *args[1:])  # moved to the device
        else:
            args = _unwrapped(args)
        kwargs = {key: _unwrapped(value) for key, value in kwargs.items()}
        return _wrapped(function(*args, **kwargs))

    call.__name__ = name
    return call


stand_in_namespace = ModuleType(
    "stand_in", "NumPy's functions, those of the array API only, on stand-in arrays."
)
for _name in FUNCTIONS:
    setattr(stand_in_namespace, _name, _function_of_namespace(_name))
for _name in CONSTANTS:
    setattr(stand_in_namespace, _name, getattr(numpy, _name))

register_array_type(StandInArray)


def register_array_api_strict() -> None:
    """Put arrays of ``array_api_strict``, a library for tests, on the tape."""
    import array_api_strict

    register_array_type(type(array_api_strict.empty(0)))
