"""CuPy's functions of arrays: NumPy's, with the parameters that CuPy's have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from tests.emulated_cupy.array import (
    Operands,
    array,
    call,
    checked_dtype,
    computed,
    ndarray,
    synchronize_for_shape,
    update,
    viewed,
)

# Parameters by function: those of CuPy 14, as far as NumPy has them too; `*`: any.
COMPUTED = """
all a axis out keepdims
allclose a b rtol atol equal_nan
amax a axis out keepdims
amin a axis out keepdims
any a axis out keepdims
append arr values axis
arange start stop step dtype
argmax a axis dtype out keepdims
argmin a axis dtype out keepdims
argsort a axis kind
array_equal a1 a2 equal_nan
average a axis weights returned keepdims
choose a choices out mode
clip a a_min a_max out
concat tup axis out dtype casting
concatenate tup axis out dtype casting
count_nonzero a axis
cov a y rowvar bias ddof
cross a b axisa axisb axisc axis
cumprod a axis dtype out
cumsum a axis dtype out
cumulative_prod x axis dtype out include_initial
cumulative_sum x axis dtype out include_initial
diff a n axis prepend append
digitize x bins right
dot a b out
einsum *
eye N M k dtype order
fix x out
gradient f axis edge_order
histogram x bins range density weights
hstack tup dtype casting
i0 x
identity n dtype
indices dimensions dtype
inner a b
interp x xp fp left right period
isclose a b rtol atol equal_nan
isin element test_elements assume_unique invert
kron a b
linspace start stop num endpoint retstep dtype axis
logspace start stop num endpoint base dtype axis
matmul x1 x2 out dtype casting axes
max a axis out keepdims
mean a axis dtype out keepdims
median a axis out overwrite_input keepdims
meshgrid *
min a axis out keepdims
nan_to_num x copy nan posinf neginf
nanargmax a axis dtype out keepdims
nanargmin a axis dtype out keepdims
nanmax a axis out keepdims
nanmean a axis dtype out keepdims
nanmin a axis out keepdims
nanstd a axis dtype out ddof keepdims
nansum a axis dtype out keepdims
nanvar a axis dtype out ddof keepdims
outer a b out
packbits a axis bitorder
pad array pad_width mode constant_values
percentile a q axis out overwrite_input method keepdims
prod a axis dtype out keepdims
quantile a q axis out overwrite_input method keepdims
repeat a repeats axis
roll a shift axis
round a decimals out
searchsorted a v side sorter
sinc x
sort a axis kind
stack tup axis out dtype casting
std a axis dtype out ddof keepdims
sum a axis dtype out keepdims
take a indices axis out
take_along_axis a indices axis
tensordot a b axes
tile A reps
trace a offset axis1 axis2 dtype out
tri N M k dtype
tril m k
triu m k
unpackbits a axis bitorder
vander x N increasing
var a axis dtype out ddof keepdims
vdot a b
vstack tup dtype casting
"""
VIEWED = """
array_split ary indices_or_sections axis
atleast_1d *
atleast_2d *
atleast_3d *
broadcast_arrays *
broadcast_to array shape
diag v k
diagonal a offset axis1 axis2
expand_dims a axis
flip a axis
fliplr a
flipud a
hsplit ary indices_or_sections
imag val
matrix_transpose x
moveaxis a source destination
permute_dims a axes
ravel a order
real val
reshape a newshape order
rollaxis a axis start
rot90 a k axes
split ary indices_or_sections axis
squeeze a axis
swapaxes a axis1 axis2
transpose a axes
vsplit ary indices_or_sections
"""
# The shape of their result depends on values, for which CuPy waits.
SYNCHRONIZING = """
argwhere a
bincount x weights minlength
compress condition a axis out
extract condition a
flatnonzero a
intersect1d arr1 arr2 assume_unique
nonzero a
setdiff1d ar1 ar2 assume_unique
trim_zeros filt trim
union1d arr1 arr2
unique ar return_index return_inverse return_counts axis equal_nan
unique_all x
unique_counts x
unique_inverse x
unique_values x
"""
# Of shapes and dtypes alone: their results are no arrays.
ABOUT = """
broadcast_shapes *
can_cast from_ to casting
isdtype dtype kind
isfortran a
isscalar element
iscomplexobj x
isrealobj x
issubdtype arg1 arg2
min_scalar_type a
ndim a
promote_types type1 type2
result_type *
shape a
size a axis
"""
UFUNCS = (
    "abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh "
    "asin asinh atan atan2 atanh bitwise_and bitwise_count bitwise_invert "
    "bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor cbrt "
    "ceil conj conjugate copysign cos cosh deg2rad degrees divide divmod equal exp "
    "exp2 expm1 fabs float_power floor floor_divide fmax fmin fmod frexp gcd greater "
    "greater_equal heaviside hypot invert isfinite isinf isnan lcm ldexp left_shift "
    "less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not "
    "logical_or logical_xor maximum minimum mod modf multiply negative nextafter "
    "not_equal positive pow power rad2deg radians reciprocal remainder right_shift "
    "rint sign signbit sin sinh sqrt square subtract tan tanh true_divide trunc"
).split()
# Parameters that NumPy knows by another name.
RENAMED = {
    ("clip", "a_min"): "min",
    ("clip", "a_max"): "max",
    ("reshape", "newshape"): "shape",
    ("argmax", "dtype"): None,
    ("argmin", "dtype"): None,
    ("nanargmax", "dtype"): None,
    ("nanargmin", "dtype"): None,
}


class ufunc:
    """A function applied element by element; its results are C-contiguous."""

    __module__ = "cupy._core._kernel"

    def __init__(self, function: Any) -> None:
        self._function = function
        self.name = f"cupy_{function.__name__}"
        self.__name__ = self.name
        self.nin, self.nout, self.nargs = function.nin, function.nout, function.nargs

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(
        self,
        *args: Any,
        out: Any = None,
        dtype: Any = None,
        casting: str = "same_kind",
    ) -> Any:
        """Results in new arrays, or in those given as `out` or after the inputs."""
        if not self.nin <= len(args) <= self.nargs:
            message = (
                f"Wrong number of arguments for {self.name!r}. It must be either "
                f"{self.nin} or {self.nargs} (with outputs), but given {len(args)}."
            )
            raise TypeError(message)
        args, outs = args[: self.nin], args[self.nin :]
        if out is not None:
            outs = out if isinstance(out, tuple) else (out,)
        options: dict[str, Any] = {"casting": casting}
        if dtype is not None:
            options["dtype"] = checked_dtype(dtype)
        if any(x is not None for x in outs) and self.nout > 1:
            message = f"{self.name}: the emulated CuPy has no `out` of several results"
            raise NotImplementedError(message)
        target = outs[0] if outs else None
        return call(self._function, *args, **options, out=target)


def _function(name: str, parameters: list[str], run: Callable) -> Callable:
    numpys = getattr(numpy, name)
    accepts_any = parameters == ["*"]

    def function(*args: Any, **kwargs: Any) -> Any:
        if not accepts_any and (
            len(args) > len(parameters) or not kwargs.keys() <= set(parameters)
        ):
            message = f"cupy.{name} takes ({', '.join(parameters)})"
            raise TypeError(message)
        if name == "repeat" and any(isinstance(x, ndarray) for x in args[1:]):
            synchronize_for_shape()
        kwargs = {
            renamed: value
            for key, value in kwargs.items()
            if (renamed := RENAMED.get((name, key), key)) is not None
        }
        return run(numpys, *args, **kwargs)

    function.__name__ = name
    return function


def _synchronizing(function: Callable, *args: Any, **kwargs: Any) -> Any:
    synchronize_for_shape()
    return call(function, *args, **kwargs)


def _viewing(function: Callable, *args: Any, **kwargs: Any) -> Any:
    arrays = [x for x in args if isinstance(x, ndarray)]
    Operands()([*args, *kwargs.values()])  # refuses what is no operand

    def applied(*values: Any) -> Any:
        given = iter(values)
        filled = [next(given) if isinstance(x, ndarray) else x for x in args]
        return function(*filled, **kwargs)

    return viewed(applied, *arrays)


def _about(function: Callable, *args: Any, **kwargs: Any) -> Any:
    operands = Operands()
    return function(*operands(args), **operands(kwargs))


def _table(text: str, run: Callable) -> dict[str, Callable]:
    rows = [line.split() for line in text.split("\n") if line]
    return {name: _function(name, parameters, run) for name, *parameters in rows}


NAMESPACE: dict[str, Any] = {
    **_table(COMPUTED, call),
    **_table(VIEWED, _viewing),
    **_table(SYNCHRONIZING, _synchronizing),
    **_table(ABOUT, _about),
    **{name: ufunc(getattr(numpy, name)) for name in UFUNCS},
}


def _named(function: Callable) -> Callable:
    NAMESPACE[function.__name__] = function
    return function


NAMESPACE["array"] = array


@_named
def asarray(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    copy: bool | None = None,
    blocking: bool = False,
) -> ndarray:
    """An array on the current device; the same one where it is one already."""
    return array(a, dtype, bool(copy), order or "K")


NAMESPACE["asanyarray"] = asarray


@_named
def asnumpy(
    a: Any,
    stream: Any = None,
    order: str = "C",
    out: numpy.ndarray | None = None,
    *,
    blocking: bool = True,
) -> numpy.ndarray:
    """An array on the host."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    return numpy.asarray(a, order=order)


@_named
def astype(x: ndarray, dtype: Any, /, *, copy: bool = True) -> ndarray:
    """The values as another dtype."""
    return x.astype(dtype, copy=copy)


@_named
def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """A C-contiguous array, the same one where it is."""
    a = array(a, dtype, False)
    if a.ndim == 0:
        return a.reshape(1)
    return a if a.flags.c_contiguous else a.copy()


@_named
def asfortranarray(a: Any, dtype: Any = None) -> ndarray:
    """An F-contiguous array, the same one where it is."""
    a = array(a, dtype, False)
    return a if a.flags.f_contiguous else a.copy("F")


@_named
def copy(a: ndarray, order: str = "K") -> ndarray:
    """A copy."""
    return a.copy(order)


@_named
def copyto(
    dst: ndarray, src: Any, casting: str = "same_kind", where: Any = None
) -> None:
    """Copy values into an array."""
    mask = True if where is None else where

    def work(x: Any, values: Any, mask: Any) -> None:
        numpy.copyto(x, values, casting=casting, where=mask)

    update(dst, work, src, mask)


@_named
def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array with garbage in it."""
    return ndarray(shape, dtype, order=order)


@_named
def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array of zeros."""
    return full(shape, 0, dtype, order)


@_named
def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """An array of ones."""
    return full(shape, 1, dtype, order)


@_named
def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """An array of one number."""
    if dtype is None:
        is_array = isinstance(fill_value, ndarray)
        dtype = (fill_value if is_array else numpy.array(fill_value)).dtype
    new = ndarray(shape, dtype, order=order)
    new.fill(fill_value)
    return new


@_named
def empty_like(
    prototype: Any,
    dtype: Any = None,
    order: str = "K",
    subok: None = None,
    shape: Any = None,
) -> ndarray:
    """An array with garbage in it, of the shape, dtype and layout of another."""
    _check_prototype("empty_like", prototype)
    dtype = checked_dtype(prototype.dtype if dtype is None else dtype)
    like = numpy.empty_like(prototype._values, dtype, order, False, shape)
    if like.flags.c_contiguous or like.flags.f_contiguous:
        return ndarray(like.shape, dtype, order="F" if like.flags.fnc else "C")
    axes = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
    new = ndarray([like.shape[axis] for axis in axes], dtype)
    new._values = new._values.transpose([axes.index(i) for i in range(like.ndim)])
    return new


def _filled_like(name: str, value: int) -> Callable:
    def function(
        a: Any,
        dtype: Any = None,
        order: str = "K",
        subok: None = None,
        shape: Any = None,
    ) -> ndarray:
        _check_prototype(name, a)
        new = empty_like(a, dtype, order, subok, shape)
        new.fill(value)
        return new

    function.__name__ = name
    return _named(function)


zeros_like = _filled_like("zeros_like", 0)
ones_like = _filled_like("ones_like", 1)


@_named
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: None = None,
    shape: Any = None,
) -> ndarray:
    """An array of one number, of the shape, dtype and layout of another."""
    _check_prototype("full_like", a)
    new = empty_like(a, dtype, order, subok, shape)
    new.fill(fill_value)
    return new


def _check_prototype(name: str, prototype: Any) -> None:
    if not isinstance(prototype, ndarray):
        message = f"{name}: expected cupy.ndarray, got {type(prototype)}"
        raise TypeError(message)


@_named
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """Elements of two arrays by a condition; indices where it holds without them."""
    if (x is None) != (y is None):
        message = "Must provide both 'x' and 'y' or neither."
        raise ValueError(message)
    if x is None:
        return NAMESPACE["nonzero"](condition)
    return computed(numpy.where, condition, x, y)


@_named
def put_along_axis(arr: ndarray, indices: Any, values: Any, axis: int) -> None:
    """Set elements by indices along an axis."""
    update(arr, lambda x, i, v: numpy.put_along_axis(x, i, v, axis), indices, values)


@_named
def fill_diagonal(a: ndarray, val: Any, wrap: bool = False) -> None:
    """Set the diagonal."""
    update(a, lambda x, v: numpy.fill_diagonal(x, v, wrap), val)


@_named
def get_array_module(*args: Any) -> Any:
    """CuPy if any argument is one of its arrays, else NumPy."""
    import cupy

    return cupy if any(isinstance(x, ndarray) for x in args) else numpy


@_named
def may_share_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    """Whether two arrays may have memory in common."""
    return numpy.may_share_memory(a._values, b._values)


@_named
def shares_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    """Whether two arrays have memory in common."""
    return numpy.shares_memory(a._values, b._values)
