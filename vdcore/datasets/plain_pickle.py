"""Pickles of plain data and byte arrays, read without running anything they name."""

from __future__ import annotations

import copyreg
import io
import pickle
from typing import Any

import numpy

# By what a pickle names (Python 2 or 3, NumPy 1 or 2): what it stands for here.
KNOWN = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",  # protocol 5
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("_codecs", "encode"): "encode",  # bytes, by Python 3 in a protocol of Python 2
}


def read_plain_pickle(content: bytes) -> dict[str, Any]:
    """Read a pickled dictionary whose values are plain data or byte arrays.

    Parameters
    ----------
    content : bytes
        What Python 2 or 3 pickled, in any protocol. Its keys are text.

    Returns
    -------
    dict
        Text of Python 2 stays bytes, except in the keys. Arrays are read-only.

    Raises
    ------
    ValueError
        If this is no such pickle, is cut short, has something after its end, holds an
        array of another dtype than uint8, or names anything but NumPy's arrays, which
        is what a pickle that wants to run a program does.

    Notes
    -----
    A pickle is a program that may call whatever it names. Here a name gives a
    `_Symbol`, calling or configuring which only writes down that this was asked for
    (or encodes a text), and arrays are made of these notes afterwards.

    Examples
    --------
    >>> content = pickle.dumps({"data": numpy.arange(3, dtype=numpy.uint8), "n": 1})
    >>> read_plain_pickle(content)
    {'data': array([0, 1, 2], dtype=uint8), 'n': 1}
    """
    stream = io.BytesIO(content)
    copyreg.clear_extension_cache()  # what is in it does not pass through find_class
    try:
        value = _Reader(stream, encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        message = f"no pickle that can be read: {error}"
        raise ValueError(message) from error
    if stream.tell() != len(content):
        message = f"{len(content) - stream.tell()} bytes after the end of the pickle"
        raise ValueError(message)
    if type(value) is not dict:
        message = f"a pickled {type(value).__name__}"
        raise ValueError(message)
    return {_text(key): _plain(key, entry) for key, entry in value.items()}


class _Symbol:
    """Something that a pickle asks for: its name, arguments and state."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.args = args
        self.state: Any = ()

    def __call__(self, *args: Any) -> _Symbol | bytes:
        if self.name == "encode":
            return str.encode(args[0], "latin-1")
        return _Symbol(self.name, args)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            message = f"it asks for {module}.{name}, which plain data do not need"
            raise pickle.UnpicklingError(message)
        return _Symbol(KNOWN[module, name])


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _plain(key: Any, entry: Any) -> Any:
    if type(entry) is not _Symbol:
        return entry
    try:
        return _array(entry)
    except (AttributeError, TypeError, ValueError) as error:
        message = f"an entry {_text(key)!r} that is no array of uint8 ({error})"
        raise ValueError(message) from error


def _array(symbol: _Symbol) -> numpy.ndarray:
    if symbol.name == "reconstruct":
        _, shape, dtype, is_fortran, values = symbol.state
        order: Any = "F" if is_fortran else "C"
    else:
        values, dtype, shape, order = symbol.args
    if dtype.name != "dtype" or dtype.args[0] not in {"u1", b"u1"}:
        message = f"dtype {dtype.args[0]!r:.60}"
        raise ValueError(message)
    return numpy.reshape(numpy.frombuffer(values, numpy.uint8), shape, order)
