"""How objects hand their state to a serializer, and take it back.

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
from abc import ABC, abstractmethod
from typing import Any

import numpy

from vdcore.arrays import asarray_like, is_array, to_numpy


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
        """Exchange one value."""
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


class Keeper(Serializer):
    """Remembers `values` of an object the first time, gives them back the second."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def _exchange(self, name: str, value: Any) -> Any:
        return self.values.setdefault(name, value)


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
