"""The one place that knows array libraries: namespaces, devices, host copies."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat
import numpy

Array = Any  # an array of any array-API library, or a traced one


def is_array(x: object) -> bool:
    """Whether `x` is an array of some library, traced or not (not a Python scalar)."""
    # The class numpy.float32, a dtype to NumPy's functions, has both attributes too.
    return hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, type)


def check_array(operation: str, argument: str, x: object) -> None:
    """Raise unless `x`, an operation's argument, is an array.

    Raises
    ------
    TypeError
        If it is a list, None, a Python number or anything else.
    """
    if not is_array(x):
        message = (
            f"{operation}: `{argument}` must be an array, got {type(x).__name__}; "
            "convert it first, for example with numpy.asarray"
        )
        raise TypeError(message)


def is_traced(x: object) -> bool:
    """Whether `x` is recorded on the tape of :mod:`vdcore.autodiff`."""
    tracer = sys.modules.get("autograd.tracer")
    return tracer is not None and tracer.isbox(x)


def untraced(x: Any) -> Any:
    """The raw array inside a traced one; anything else as it is."""
    while is_traced(x):
        x = x._value
    return x


def library_name(cls: type) -> str:
    """Return the library that an array class belongs to, for example ``"numpy"``."""
    library = cls.__module__.partition(".")[0]
    return "jax" if library == "jaxlib" else library


def is_on_gpu(x: Any) -> bool:
    """Whether `x` is an array of a library whose work Python need not wait for."""
    return library_name(type(untraced(x))) == "cupy"


def array_namespace(*arrays: Any) -> Any:
    """Return the array-API namespace that `arrays` have in common.

    Parameters
    ----------
    *arrays
        Arrays of one library. Python scalars and None are ignored. If any is
        traced, the namespace is the differentiable one of its library.

    Raises
    ------
    TypeError
        If there is no array among them, or arrays of more than one library.

    Examples
    --------
    >>> import numpy
    >>> array_namespace(numpy.ones(2), 3.0, None).sum(numpy.ones(2))
    np.float64(2.0)
    """
    kinds = tuple(map(type, arrays))
    known = _namespaces.get(kinds)
    if known is not None:
        return known
    xp = _array_namespace(arrays)
    # A traced NumPy array has a class of its own; those of other libraries share one.
    if not any(kind.__module__ == "vdcore.autodiff" for kind in kinds):
        _namespaces[kinds] = xp
    return xp


_namespaces: dict[tuple[type, ...], Any] = {}  # by the classes of the arguments


def _array_namespace(arrays: tuple[Any, ...]) -> Any:
    traced = False
    raw = []
    for x in arrays:
        if is_traced(x):
            traced, x = True, untraced(x)
        if is_array(x):
            raw.append(x)
    if not raw:
        kinds = ", ".join(type(x).__name__ for x in arrays)
        message = (
            f"array_namespace: expected at least one array, got ({kinds}); "
            "convert the values first, for example with numpy.asarray"
        )
        raise TypeError(message)
    libraries = sorted({library_name(type(x)) for x in raw})
    if len(libraries) > 1:
        message = (
            "array_namespace: all arrays must come from one library, got "
            f"{' and '.join(libraries)}; move them to one library and device first"
        )
        raise TypeError(message)
    xp = array_api_compat.array_namespace(raw[0])
    if traced:
        from vdcore.traced_namespace import traced_namespace

        return traced_namespace(xp)
    return xp


def to_numpy(x: Any) -> numpy.ndarray:
    """A NumPy array on the host with the values of `x`, an array of any library."""
    x = untraced(x)
    if isinstance(x, numpy.ndarray):
        return x
    library = library_name(type(x))
    if library == "torch":
        return x.detach().cpu().numpy()
    if library == "jax":
        return numpy.asarray(x)
    if hasattr(x, "get"):  # CuPy
        return x.get()
    if is_array(x) and hasattr(x, "__dlpack__"):
        return numpy.from_dlpack(x)
    return numpy.asarray(x)


def asarray_like(x: Any, like: Any) -> Any:
    """The values of `x` as an array of the library and on the device of `like`."""
    like = untraced(like)
    if type(x) is type(like):
        return x
    if isinstance(like, numpy.ndarray):
        return to_numpy(x)
    xp = array_api_compat.array_namespace(like)
    return xp.asarray(to_numpy(x), device=array_api_compat.device(like))


def to_device(x: Any, device: Any) -> Any:
    """Move an array to a device.

    Parameters
    ----------
    x : array
    device : None, "cpu", int or "cuda:N"
        None leaves `x` where it is, "cpu" gives a NumPy array, a number or
        "cuda:N" a CuPy array on that GPU.

    Raises
    ------
    ValueError
        If the device is none of these, or there is no such GPU.
    RuntimeError
        If a GPU is asked for and CuPy is not installed or finds no GPU that it can use.
    """
    if device is None:
        return x
    if device == "cpu":
        return to_numpy(x)
    with using_device(device) as cupy:
        return cupy.asarray(untraced(x))


@contextmanager
def using_device(device: Any) -> Iterator[Any]:
    """Let new arrays of CuPy be made on a GPU inside a ``with`` block.

    Parameters
    ----------
    device
        As of :func:`to_device`; None and "cpu" change nothing.

    Yields
    ------
    module or None
        CuPy, for a GPU.

    Raises
    ------
    ValueError, RuntimeError
        As :func:`to_device`.
    """
    if device is None or device == "cpu":
        yield None
        return
    index = _gpu_index(device)
    cupy = _cupy(device)
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        message = (
            f"to_device: `device` = {device!r} is a GPU, and CuPy is installed but no "
            f'GPU is usable: {error}; look at the driver, or use device "cpu"'
        )
        raise RuntimeError(message) from error
    if index >= count:
        message = (
            f"to_device: `device` must be one of the {count} GPUs of this machine, "
            f"0 to {count - 1}, got {device!r}"
        )
        raise ValueError(message)
    with cupy.cuda.Device(index):
        yield cupy


def _cupy(device: Any) -> Any:
    try:
        import cupy
    except ImportError as error:
        message = (
            f"to_device: `device` = {device!r} is a GPU, which needs CuPy, and CuPy "
            'is not installed; run `pip install "vdcore[cuda13]"` or use device "cpu"'
        )
        raise RuntimeError(message) from error
    return cupy


def _gpu_index(device: Any) -> int:
    name = str(device).removeprefix("cuda:")
    if isinstance(device, bool) or not name.isdigit():
        message = (
            'to_device: `device` must be None, "cpu", a GPU number or "cuda:N", '
            f"got {device!r}"
        )
        raise ValueError(message)
    return int(name)
