"""``cupy.ndarray``: NumPy's values in device memory, with CuPy's manners."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy

from tests.emulated_cupy import devices, pinned_memory, streams
from tests.emulated_cupy.errors import UndefinedBehaviour
from tests.emulated_cupy.memory import MemoryPointer, alloc
from tests.emulated_cupy.transfers import count

DTYPES = "?bhilqBHILQefdFD"  # those that a device has
SCALARS = int | float | complex | numpy.generic  # a bool is an int


class Flags:
    """Layout of an array in memory."""

    __module__ = "cupy._core.flags"

    def __init__(self, values: numpy.ndarray, owndata: bool) -> None:
        self.c_contiguous = values.flags.c_contiguous
        self.f_contiguous = values.flags.f_contiguous
        self.owndata = owndata

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())

    @property
    def fnc(self) -> bool:
        """F-contiguous only."""
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        """F- or C-contiguous."""
        return self.f_contiguous or self.c_contiguous


class ndarray:
    """An array on a device.

    Attributes
    ----------
    data : MemoryPointer
        Where its first element is.
    base : ndarray or None
        The array that it is a view of.
    """

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_values", "base", "data")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        dtype = checked_dtype(dtype)
        shape = (shape,) if isinstance(shape, int | numpy.integer) else tuple(shape)
        if strides is not None and memptr is None:
            message = "memptr is required if strides is given."
            raise ValueError(message)
        if any(n < 0 for n in shape):
            message = "Negative dimensions are not allowed"
            raise ValueError(message)
        size = math.prod(shape) * dtype.itemsize
        self.data = alloc(size) if memptr is None else memptr
        # Strides may reach beyond `size`, to the end of the memory at most.
        available = size if memptr is None else memptr.mem.size - memptr._offset
        memory = self.data._bytes(available)
        self._values = numpy.ndarray(
            shape, dtype, memory, strides=strides, order=order or "C"
        )
        self.base: ndarray | None = None

    # --------------------------------------------------------------------- attributes

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes; setting it reshapes."""
        return self._values.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        reshaped = self._values.reshape(shape)
        if not numpy.shares_memory(reshaped, self._values) and self.size:
            message = "incompatible shape"
            raise AttributeError(message)
        self._values = reshaped

    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    itemsize = property(lambda self: self._values.itemsize)
    nbytes = property(lambda self: self._values.nbytes)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: Flags(self._values, self.base is None))
    device = property(lambda self: self.data.device)
    T = property(lambda self: self._view(self._values.T))
    mT = property(lambda self: self._view(self._values.mT))

    @property
    def real(self) -> ndarray:
        """Real part, a view."""
        return self._view(self._values.real)

    @property
    def imag(self) -> ndarray:
        """Imaginary part, a view; zeros for real arrays."""
        if self.dtype.kind == "c":
            return self._view(self._values.imag)
        return computed(numpy.imag, self)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "data": (self.data.ptr if self.size else 0, False),
            "strides": None if self.flags.c_contiguous else self.strides,
            "stream": streams.current_stream().ptr or 1,
            "version": 3,
        }

    # ---------------------------------------------------------- to and from the host

    def get(
        self,
        stream: Any = None,
        order: str = "C",
        out: numpy.ndarray | None = None,
        blocking: bool = True,
    ) -> numpy.ndarray:
        """A copy on the host."""
        stream = stream or streams.current_stream()
        if out is not None:
            if not isinstance(out, numpy.ndarray):
                message = "Only numpy.ndarray can be obtained fromcupy.ndarray"
                raise TypeError(message)
            if (self.dtype, self.shape) != (out.dtype, out.shape):
                message = (
                    f"{out.dtype} array of shape {out.shape} cannot be obtained from "
                    f"{self.dtype} array of shape {self.shape}"
                )
                raise (TypeError if self.dtype != out.dtype else ValueError)(message)
        host = numpy.empty(self.shape, self.dtype, order) if out is None else out
        values = self._values
        if not blocking and out is not None and pinned_memory.is_pinned(out):
            work = _copy("to_host", host, values)
            stream._run(work, [self.data.mem._block], put_off=True)
        else:
            stream.synchronize()
            _copy("to_host", host, values)()
        return host

    def set(self, arr: numpy.ndarray, stream: Any = None) -> None:
        """Copy an array of the same shape and dtype from the host."""
        if not isinstance(arr, numpy.ndarray):
            message = "Only numpy.ndarray can be set to cupy.ndarray"
            raise TypeError(message)
        if self.dtype != arr.dtype:
            message = f"{arr.dtype} array cannot be set to {self.dtype} array"
            raise TypeError(message)
        if self.shape != arr.shape:
            message = f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}"
            raise ValueError(message)
        if not self.flags.forc:
            message = "Cannot set to non-contiguous array"
            raise RuntimeError(message)
        stream = stream or streams.current_stream()
        is_pinned = pinned_memory.is_pinned(arr)
        if not is_pinned:
            stream._refuse_while_capturing()
        work = _copy("to_device", self._values, arr)
        stream._run(work, [self.data.mem._block], put_off=is_pinned)

    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.size != 1:
            message = "can only convert an array of size 1 to a Python scalar"
            raise ValueError(message)
        return self.get().item()

    def tolist(self) -> Any:
        """All elements, as nested lists of Python numbers."""
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        """All bytes."""
        return self.get().tobytes(order)

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        message = (
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )
        raise TypeError(message)

    def __bool__(self) -> bool:
        if self.size == 0:
            message = (
                "The truth value of an empty array is ambiguous. Returning False, but "
                "in future this will result in an error. Use `array.size > 0` to check "
                "that an array is not empty."
            )
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return False
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __bytes__(self) -> bytes:
        return bytes(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, format_spec: str) -> str:
        return format(self.get(), format_spec)

    def __reduce__(self) -> Any:
        return array, (self.get(),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.data.device_id

    def __dlpack__(self, **kwargs: Any) -> NoReturn:
        message = "the emulated CuPy has no device memory that others could read"
        raise BufferError(message)

    # -------------------------------------------------------------- copies and views

    def copy(self, order: str = "C") -> ndarray:
        """A copy on the current device."""
        with _any_device():
            return computed(numpy.array, self, order=order, layout="K")

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        """The values as another dtype."""
        if casting is not None or subok is not None:
            message = "astype: CuPy supports neither `casting` nor `subok`"
            raise NotImplementedError(message)
        dtype = checked_dtype(dtype)
        keeps_order = order == "K" or self._values.flags[f"{order}_CONTIGUOUS"]
        if not copy and dtype == self.dtype and keeps_order:
            return self
        return computed(lambda x: x.astype(dtype, order=order), self, layout="K")

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        """The same memory, perhaps as another dtype."""
        return self._view(
            self._values.view() if dtype is None else self._values.view(dtype)
        )

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        """Another shape: a view where that can be, else a copy."""
        return viewed(lambda x: x.reshape(*shape, order=order), self)

    def ravel(self, order: str = "C") -> ndarray:
        """One axis: a view where that can be, else a copy."""
        return viewed(lambda x: x.ravel(order), self)

    def flatten(self, order: str = "C") -> ndarray:
        """A copy with one axis."""
        return computed(lambda x: x.flatten(order), self)

    def transpose(self, *axes: Any) -> ndarray:
        """Axes in another order, a view."""
        return self._view(self._values.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        """Two axes swapped, a view."""
        return self._view(self._values.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        """Without axes of length 1, a view."""
        return self._view(self._values.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        """A diagonal, a view."""
        return self._view(self._values.diagonal(offset, axis1, axis2))

    def _view(self, values: numpy.ndarray) -> ndarray:
        new = object.__new__(ndarray)
        offset = values.ctypes.data - self.data.mem.ptr if values.size else 0
        new.data = MemoryPointer(self.data.mem, offset)
        new.base = self if self.base is None else self.base
        new._values = values
        return new

    # ----------------------------------------------------------------------- indexing

    def __len__(self) -> int:
        if self.ndim == 0:
            message = "len() of unsized object"
            raise TypeError(message)
        return len(self._values)

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            message = "iteration over a 0-d array"
            raise TypeError(message)
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> ndarray:
        index, is_basic, depends_on_values = _index(index)
        if is_basic:
            return self._view(self._values[index])
        if depends_on_values:
            synchronize_for_shape()
        return computed(lambda x, *parts: x[parts], self, *index)

    def __setitem__(self, index: Any, value: Any) -> None:
        index, is_basic, depends_on_values = _index(index)
        if not is_basic:
            if depends_on_values:
                synchronize_for_shape()
            value = value if isinstance(value, ndarray) else array(value, self.dtype)
            update(self, lambda x, v, *parts: x.__setitem__(parts, v), value, *index)
            return
        target = self._view(self._values[index])
        if not isinstance(value, ndarray):
            target.fill(value)
            return
        same = target._values.__array_interface__ == value._values.__array_interface__
        if not same and numpy.shares_memory(target._values, value._values):
            message = (
                "cupy.ndarray.__setitem__: the elements written are read too, in no "
                "order that a device keeps; copy the value first"
            )
            raise UndefinedBehaviour(message)
        lead = next((i for i, n in enumerate(value.shape) if n != 1), value.ndim)
        value = value.reshape(value.shape[lead:])
        update(target, lambda x, v: numpy.copyto(x, v, casting="unsafe"), value)

    def fill(self, value: Any) -> None:
        """Set all elements to a number."""
        if isinstance(value, numpy.ndarray):
            if value.shape != ():
                message = "non-scalar numpy.ndarray cannot be used for fill"
                raise ValueError(message)
            value = value.item()
        if not isinstance(value, ndarray | SCALARS):
            message = f"Unsupported type {type(value)}"
            raise TypeError(message)
        update(self, lambda x, v: numpy.copyto(x, v, casting="unsafe"), value)

    # ---------------------------------------------------------------------- functions

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        import cupy

        own = getattr(cupy, ufunc.__name__, None)
        out = kw.get("out", ())
        known = all(isinstance(x, ndarray | numpy.ndarray | SCALARS) for x in inputs)
        if method != "__call__" or own is None or not known or len(out) > 1:
            return NotImplemented
        if out:
            kw["out"] = out[0]
        return own(*inputs, **kw)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        import cupy

        own: Any = cupy
        for name in (*func.__module__.split(".")[1:], func.__name__):
            own = getattr(own, name, None)
        if own is None or not all(t in (ndarray, numpy.ndarray) for t in types):
            return NotImplemented
        return own(*args, **kwargs)

    def __pos__(self) -> ndarray:
        return self

    def sort(self, axis: int = -1, kind: Any = None) -> None:
        """Sort in place."""
        update(self, lambda x: x.sort(axis))

    def dot(self, b: ndarray, out: ndarray | None = None) -> ndarray:
        """Product of matrices."""
        return call(numpy.dot, self, b, out=out)

    def nonzero(self) -> tuple[ndarray, ...]:
        """Indices of elements that are not 0, axis by axis."""
        synchronize_for_shape()
        return computed(numpy.nonzero, self)

    def scatter_add(self, slices: Any, value: Any) -> None:
        """Add to the indexed elements, as often as each is indexed."""
        index, _, _ = _index(slices)
        update(self, lambda x, v, *parts: numpy.add.at(x, parts, v), value, *index)


# --------------------------------------------------- how work gets at arrays' values


class _any_device:
    """Allow arrays of other devices than the current one inside a ``with`` block."""

    depth = 0

    def __enter__(self) -> None:
        _any_device.depth += 1

    def __exit__(self, *exception: object) -> None:
        _any_device.depth -= 1


class Operands:
    """The values of arrays, and the memory that they lie in."""

    def __init__(self) -> None:
        self.blocks: list[Any] = []

    def __call__(self, x: Any) -> Any:
        """Arrays replaced by their values, in nested tuples, lists and dicts too."""
        if isinstance(x, ndarray):
            if x.data.device_id != devices.current_id() and not _any_device.depth:
                message = (
                    "Array device must be same as the current device: array device = "
                    f"{x.data.device_id} while current = {devices.current_id()}"
                )
                raise ValueError(message)
            self.blocks.append(x.data.mem._block)
            return x._values
        if type(x) in (tuple, list):
            return type(x)(map(self, x))
        if type(x) is dict:
            return {key: self(value) for key, value in x.items()}
        if hasattr(x, "shape") and not isinstance(
            x, numpy.generic | numpy.dtype | type
        ):
            message = f"Unsupported type {type(x)}"
            raise TypeError(message)
        return x


def computed(function: Callable, *args: Any, layout: str = "C", **kwargs: Any) -> Any:
    """Result of a NumPy function of arrays, in new arrays.

    Parameters
    ----------
    function : callable
    *args, **kwargs
        Its arguments, with CuPy's arrays.
    layout : {"C", "K"}
        Whether the results are C-contiguous or laid out as NumPy does.
    """
    operands = Operands()
    args, kwargs = operands(args), operands(kwargs)
    if not streams.capturing():
        results: list[Any] = []
        streams.run(lambda: results.append(function(*args, **kwargs)), ())
        return _mapped(lambda x: _new(x, layout, x), results[0])
    # Nothing is computed, but once with zeros, to learn shapes and dtypes.
    with numpy.errstate(all="ignore"):
        shaped = function(*_zeros_like(args), **_zeros_like(kwargs))
    arrays: list[ndarray] = []

    def made(x: Any) -> ndarray:
        arrays.append(_new(x, layout))
        return arrays[-1]

    result = _mapped(made, shaped)
    targets = [x._values for x in arrays]
    blocks = operands.blocks + [x.data.mem._block for x in arrays]

    def work() -> None:
        values: list[Any] = []
        _mapped(values.append, function(*args, **kwargs))
        for target, value in zip(targets, values, strict=True):
            numpy.copyto(target, value)

    streams.run(work, blocks)
    return result


def update(target: ndarray, function: Callable, *args: Any) -> None:
    """Let a function of an array's values, and of other arguments, change them."""
    operands = Operands()
    values, args = operands(target), operands(args)
    if streams.capturing():
        # Errors come now, as on a device.
        with numpy.errstate(all="ignore"):
            function(numpy.zeros_like(values), *_zeros_like(args))
    streams.run(lambda: function(values, *args), operands.blocks)


def call(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Like :func:`computed`; `out`, where given, takes the result and is returned."""
    out = kwargs.pop("out", None)
    if out is None:
        return computed(function, *args, **kwargs)
    if not isinstance(out, ndarray):
        message = f"Output arguments type must be cupy.ndarray, got {type(out)}"
        raise TypeError(message)
    update(out, lambda x, a, kw: function(*a, **kw, out=x), args, kwargs)
    return out


def viewed(function: Callable, *arrays: ndarray) -> Any:
    """Result of a NumPy function that makes views of arrays where it can."""
    owners = {id(_owner(x._values)): x for x in arrays}

    def wrapped(values: Any) -> Any:
        source = owners.get(id(_owner(values)))
        return None if source is None else source._view(values)

    with numpy.errstate(all="ignore"):
        results = function(*(x._values for x in arrays))
    views = _mapped(wrapped, results)
    parts = views if isinstance(views, tuple | list) else [views]
    if any(part is None for part in parts):
        return computed(function, *arrays)
    return views


def _new(like: Any, layout: str, values: Any = None) -> ndarray:
    """A new array of the shape and dtype of a NumPy one, perhaps with its values."""
    like = numpy.asarray(like)
    if layout == "C" or like.flags.c_contiguous:
        new = ndarray(like.shape, like.dtype)
    else:
        order = sorted(range(like.ndim), key=lambda axis: -like.strides[axis])
        new = ndarray([like.shape[axis] for axis in order], like.dtype)
        new._values = new._values.transpose([order.index(i) for i in range(like.ndim)])
    if values is not None:
        numpy.copyto(new._values, values)
    return new


def _mapped(function: Callable, result: Any) -> Any:
    """A function of each array of a result; what is no array stays."""
    if isinstance(result, numpy.ndarray | numpy.generic):
        return function(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_mapped(function, x) for x in result))
    if isinstance(result, tuple | list):
        return type(result)(_mapped(function, x) for x in result)
    return result


def _zeros_like(x: Any) -> Any:
    if isinstance(x, numpy.ndarray):
        return numpy.zeros_like(x)
    if type(x) in (tuple, list):
        return type(x)(map(_zeros_like, x))
    if type(x) is dict:
        return {key: _zeros_like(value) for key, value in x.items()}
    return x


def _copy(direction: str, target: numpy.ndarray, source: numpy.ndarray) -> Callable:
    """Work that copies between host and device, and counts it."""

    def work() -> None:
        count(direction)
        numpy.copyto(target, source)

    return work


def _owner(values: Any) -> Any:
    while getattr(values, "base", None) is not None:
        values = values.base
    return values


# ------------------------------------------------------------------ arrays from others


def checked_dtype(dtype: Any) -> numpy.dtype:
    """A dtype that devices have."""
    dtype = numpy.dtype(dtype)
    if dtype.char not in DTYPES:
        message = f"Unsupported dtype {dtype}"
        raise ValueError(message)
    return dtype


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str | None = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    """An array on the current device from an array of any place, numbers or lists."""
    if subok:
        message = "array: CuPy does not support `subok`"
        raise NotImplementedError(message)
    order = order or "K"
    if isinstance(obj, ndarray):
        elsewhere = obj.data.device_id != devices.current_id()
        if elsewhere:
            obj = obj.copy()
        result = obj.astype(
            obj.dtype if dtype is None else dtype,
            order=order,
            copy=bool(copy) and not elsewhere,
        )
    elif _holds_arrays(obj):
        parts = [array(x) for x in obj]
        result = computed(lambda *x: numpy.stack(x), *parts)
        if dtype is not None:
            result = result.astype(dtype, copy=False)
    else:
        result = _from_host(obj, dtype, order)
    if result.ndim < ndmin:
        result = result.reshape((1,) * (ndmin - result.ndim) + result.shape)
    return result


def _holds_arrays(obj: Any) -> bool:
    if isinstance(obj, list | tuple) and len(obj):
        return isinstance(obj[0], ndarray) or _holds_arrays(obj[0])
    return False


def _from_host(obj: Any, dtype: Any, order: str) -> ndarray:
    host = numpy.asarray(obj, dtype=dtype, order=None if order == "K" else order)
    checked_dtype(host.dtype)
    if host.ndim == 0:
        new = ndarray((), host.dtype)
        new.fill(host)
        return new
    streams.refuse_while_capturing()
    new = ndarray(host.shape, host.dtype, order="F" if host.flags.fnc else "C")
    count("to_device")
    numpy.copyto(new._values, host)
    return new


def synchronize_for_shape() -> None:
    """Wait for values on which the shape of a result depends."""
    streams.synchronize()


# ---------------------------------------------------------------------------- indices


def _index(index: Any) -> tuple[tuple[Any, ...], bool, bool]:
    """As a tuple; whether it gives a view; whether masks decide the shape."""
    parts = list(index) if isinstance(index, tuple) else [index]
    is_basic, depends_on_values = True, False
    for i, part in enumerate(parts):
        if part is None or part is Ellipsis or isinstance(part, slice):
            continue
        is_flag = isinstance(part, bool | numpy.bool_)
        if isinstance(part, int | numpy.integer) and not is_flag:
            continue
        is_basic = False
        if not isinstance(part, ndarray):
            empty = isinstance(part, list | tuple) and not len(part)
            parts[i] = part = array(part, numpy.int32 if empty else None)
        depends_on_values |= part.dtype.kind == "b"
    # With an ellipsis even an index of all axes gives a view, of 0 dimensions.
    if is_basic and not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    return tuple(parts), is_basic, depends_on_values
