"""Objects to and from ``.npz`` files, as Chainer lays them out, and never a pickle.

An object takes part by a method ``serialize(serializer)`` that passes each value of
its state through the serializer and keeps what comes back::

    def serialize(self, serializer):
        self.lr = serializer("lr", self.lr)
        self.child.serialize(serializer["child"])

The same method writes and reads. Arrays and numbers are stored as arrays, everything
else (text, None, booleans, lists, dictionaries) as JSON text.
"""

from __future__ import annotations

import copy
import json
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy
from numpy.lib import format as npy

from vdcore.arrays import asarray_like, is_array, to_numpy
from vdcore.files import open_atomically

__all__ = [
    "DictionarySerializer",
    "FileFormatError",
    "NpzDeserializer",
    "Serializer",
    "generator_state",
    "load_npz",
    "restore_generator",
    "save_npz",
]


class FileFormatError(ValueError):
    """A file is damaged, foreign, or does not fit the object that reads it."""


class Serializer(ABC):
    """What ``serialize`` methods are given.

    ``serializer(key, value)`` exchanges one value, ``serializer[key]`` is the
    serializer of a part, whose entries are named ``key/...``.

    Attributes
    ----------
    is_writer : bool
        True: values are stored, and come back as they are. False: the value stored
        comes back; for an array one of the same library, shape and dtype, for None
        whatever is stored.
    """

    is_writer = False
    _prefix = ""

    def __getitem__(self, key: str) -> Serializer:
        child = copy.copy(self)  # shares the collections, has its own prefix
        child._prefix = f"{self._prefix}{key.strip('/')}/"
        return child

    def __call__(self, key: str, value: Any) -> Any:
        return self._exchange(self._prefix + key.lstrip("/"), value)

    @abstractmethod
    def _exchange(self, name: str, value: Any) -> Any: ...


class DictionarySerializer(Serializer):
    """Collects the state of an object in a flat dictionary of NumPy arrays, `entries`.

    Examples
    --------
    >>> serializer = DictionarySerializer()
    >>> serializer["l1"]("lr", 0.5)
    0.5
    >>> serializer.entries
    {'l1/lr': array(0.5)}
    """

    is_writer = True

    def __init__(self) -> None:
        self.entries: dict[str, numpy.ndarray] = {}

    def _exchange(self, name: str, value: Any) -> Any:
        if name in self.entries:
            message = f"serialize: two values are named {name!r}; rename one of them"
            raise ValueError(message)
        self.entries[name] = _encode(name, value)
        return value


class NpzDeserializer(Serializer):
    """Hands out `entries`, and notes what is asked for, missing or does not fit.

    A value whose entry is missing or does not fit stays as it is.
    """

    def __init__(self, entries: dict[str, numpy.ndarray]) -> None:
        self.entries = entries
        self.asked: set[str] = set()
        self.missing: list[str] = []
        self.misfits: list[str] = []

    def _exchange(self, name: str, value: Any) -> Any:
        self.asked.add(name)
        if name not in self.entries:
            self.missing.append(name)
            return value
        entry = self.entries[name]
        misfit = _misfit(name, entry, value)
        if misfit:
            self.misfits.append(misfit)
            return value
        return _decode(entry, value)


class _Keeper(Serializer):
    """Remembers the values of an object the first time, gives them back the second."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def _exchange(self, name: str, value: Any) -> Any:
        return self._values.setdefault(name, value)


def save_npz(
    path: str | os.PathLike[str], obj: Any, *, compression: bool = False
) -> None:
    """Write the state of an object to an ``.npz`` file, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write; its folder is made if need be.
    obj
        Anything with a method ``serialize``: a link, an optimizer, a trainer.
    compression : bool
        Deflate the entries. Off by default, other than in Chainer: floating-point
        weights shrink by a few percent and take ten times as long to write.
    """
    serializer = DictionarySerializer()
    obj.serialize(serializer)
    method = zipfile.ZIP_DEFLATED if compression else zipfile.ZIP_STORED
    with open_atomically(path) as file, zipfile.ZipFile(file, "w", method) as archive:
        for name, array in serializer.entries.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, array, allow_pickle=False)


def load_npz(
    path: str | os.PathLike[str], obj: Any, *, prefix: str = "", strict: bool = True
) -> None:
    """Read the state of an object from an ``.npz`` file, all of it or nothing.

    The file is read and compared with the object first; when an error is raised,
    the object is as it was.

    Parameters
    ----------
    path : path-like
        A file written by :func:`save_npz`.
    obj
        Anything with a method ``serialize``.
    prefix : str
        Read only the entries that start with it: ``"updater/model:main/"`` takes the
        model out of a snapshot of a trainer.
    strict : bool
        Refuse a file that lacks an entry or holds one that the object has no place
        for. Otherwise the object keeps its own value, and the entry is left aside.
        An entry of another shape or dtype is an error in either case.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is damaged, cut short, no ``.npz``, holds a pickled object, or
        does not fit `obj`.
    """
    entries = {
        name.removeprefix(prefix): array
        for name, array in read_npz(path).items()
        if name.startswith(prefix)
    }
    keeper = _Keeper()
    obj.serialize(keeper)
    reader = NpzDeserializer(entries)
    try:
        problems = _read(obj, reader, strict)
    except BaseException:
        obj.serialize(keeper)
        raise
    if problems:
        obj.serialize(keeper)
        shown = "; ".join(problems[:8])
        if len(problems) > 8:
            shown += f"; and {len(problems) - 8} more"
        message = (
            f"load_npz: `{path}` does not fit {type(obj).__name__}: {shown}. Build the "
            "object as it was when it was saved"
        )
        if strict and not reader.misfits:
            message += ", or pass strict=False to leave as it is what only one has"
        raise FileFormatError(message)


def _read(obj: Any, reader: NpzDeserializer, strict: bool) -> list[str]:
    """Let `obj` read; return what is wrong with the entries for it."""
    failure = []
    try:
        obj.serialize(reader)
    except (TypeError, ValueError) as error:
        # What an object makes of a value that it had to keep is no news of its own.
        if not (reader.misfits or reader.missing):
            failure.append(str(error))
    problems = reader.misfits + failure
    if strict:
        problems += [f"it has no entry {name!r}" for name in reader.missing]
        unused = sorted(reader.entries.keys() - reader.asked)
        problems += [f"nothing takes its entry {name!r}" for name in unused]
    return problems


def read_npz(path: str | os.PathLike[str]) -> dict[str, numpy.ndarray]:
    """Read all arrays of an ``.npz`` file, never a pickle; errors as :func:`load_npz`."""
    path = Path(path)
    if not path.exists():
        message = f"load_npz: there is no file `{path}`"
        raise FileNotFoundError(message)
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            message = (
                f"load_npz: `{path}` is not an .npz file; expected one written by "
                "save_npz (a pickle is never loaded)"
            )
            raise FileFormatError(message)
    entries = {}
    name = ""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as entry:
                    array = npy.read_array(entry, allow_pickle=False)
                entries[name.removesuffix(".npy")] = array
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        message = (
            f"load_npz: `{path}` is damaged or was cut short ({error}); "
            "use another copy or an earlier snapshot"
        )
        raise FileFormatError(message) from error
    except (ValueError, RuntimeError) as error:
        message = (
            f"load_npz: `{path}` holds an entry {name!r} that is no plain array "
            f"({error}); expected a file written by save_npz"
        )
        raise FileFormatError(message) from error
    return entries


def generator_state(rng: numpy.random.Generator) -> dict[str, Any]:
    """State of a generator as a dictionary that JSON can hold."""
    return json.loads(json.dumps(rng.bit_generator.state, default=lambda x: x.tolist()))


def restore_generator(rng: numpy.random.Generator, state: dict[str, Any]) -> None:
    """Give a generator a state made by :func:`generator_state`.

    Examples
    --------
    >>> rng = numpy.random.default_rng(0)
    >>> state = generator_state(rng)
    >>> first = rng.random()
    >>> restore_generator(rng, state)
    >>> rng.random() == first
    True
    """
    expected = type(rng.bit_generator).__name__
    if state["bit_generator"] != expected:
        message = (
            f"restore_generator: `state` must be of a {expected} generator, "
            f"got one of {state['bit_generator']}"
        )
        raise ValueError(message)
    rng.bit_generator.state = state


def _is_stored_as_array(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_array(value) or is_number


def _encode(name: str, value: Any) -> numpy.ndarray:
    if not _is_stored_as_array(value):
        try:
            return numpy.asarray(json.dumps(value))
        except TypeError as error:
            message = (
                f"serialize: {name!r} must be an array, a number or what JSON can "
                f"hold, got {type(value).__name__} ({error})"
            )
            raise TypeError(message) from error
    array = numpy.asarray(to_numpy(value))
    if array.dtype.kind not in "biufc":
        message = (
            f"serialize: {name!r} must hold numbers or booleans, got an array of "
            f"dtype {array.dtype}"
        )
        raise TypeError(message)
    return array


def _misfit(name: str, entry: numpy.ndarray, value: Any) -> str | None:
    """Why `entry` cannot take the place of `value`; None if it can."""
    is_text = entry.dtype.kind == "U"
    stored = "text" if is_text else f"{entry.dtype} of shape {entry.shape}"
    if is_array(value):
        dtype = str(value.dtype).rpartition(".")[2]
        if is_text or entry.shape != tuple(value.shape) or entry.dtype.name != dtype:
            expected = f"{dtype} of shape {tuple(value.shape)}"
            return f"entry {name!r} must be {expected}, got {stored}"
    elif value is not None and not is_text and entry.shape != ():
        return f"entry {name!r} must be a {type(value).__name__}, got {stored}"
    return None


def _decode(entry: numpy.ndarray, value: Any) -> Any:
    if entry.dtype.kind == "U":
        return json.loads(entry.item())
    if is_array(value):
        return asarray_like(entry, value)
    return entry.item() if entry.shape == () else entry
