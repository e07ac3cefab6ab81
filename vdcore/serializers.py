"""Objects to and from ``.npz`` files, as Chainer lays them out, and never a pickle.

What an object has to do for it is described in :mod:`vdcore.serialization`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection
from typing import Any

import numpy
from numpy.lib import format as npy

from vdcore.files import FileFormatError, open_atomically, read_arrays
from vdcore.interchange import load_safetensors, save_safetensors
from vdcore.serialization import (
    DictionarySerializer,
    Keeper,
    NpzDeserializer,
    Serializer,
    generator_state,
    restore_generator,
)

__all__ = [
    "DictionarySerializer",
    "FileFormatError",
    "NpzDeserializer",
    "Serializer",
    "generator_state",
    "load_npz",
    "load_safetensors",
    "read_npz",
    "restore_generator",
    "save_npz",
    "save_safetensors",
]


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

    When an error is raised, the object is as it was.

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
        An entry of another shape or dtype, or a file of which nothing at all belongs
        to the object, is an error in either case.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If `path` is a folder.
    FileFormatError
        If the file is damaged, cut short, no ``.npz``, holds a pickled object, or
        does not fit `obj`; if it is a file of another kind, such as a snapshot in the
        place of a model file, this is said.
    """
    found = read_npz(path)
    entries = {
        name.removeprefix(prefix): array
        for name, array in found.items()
        if name.startswith(prefix)
    }
    if prefix and not entries:
        message = (
            f"load_npz: `{path}` must have entries that start with `prefix` = "
            f"{prefix!r}, got {_listed(found)}; give the prefix of one of these"
        )
        raise FileFormatError(message)
    keeper = Keeper()
    obj.serialize(keeper)
    reader = NpzDeserializer(entries)
    try:
        problems = _read(obj, reader, strict)
    except BaseException:
        obj.serialize(keeper)
        raise
    if problems:
        obj.serialize(keeper)
        misfit = f"load_npz: `{path}` does not fit {type(obj).__name__}: "
        mistaken = _mistaken_kind(entries, reader.asked)
        if mistaken:
            raise FileFormatError(misfit + mistaken)
        shown = "; ".join(problems[:8])
        if len(problems) > 8:
            shown += f"; and {len(problems) - 8} more"
        message = f"{misfit}{shown}. Build the object as it was when it was saved"
        if strict:
            message += ", or pass strict=False to pass over what only one of them has"
        else:
            message += ", or name the part of the file that is meant by `prefix`"
        raise FileFormatError(message)


def _read(obj: Any, reader: NpzDeserializer, strict: bool) -> list[str]:
    """Let `obj` read the entries; return what is wrong with them for it."""
    entries = reader.entries
    failure = None
    try:
        obj.serialize(reader)
    except (TypeError, ValueError) as error:
        failure = str(error)
    problems = list(reader.misfits)
    if strict:
        problems += [f"it has no entry {name!r}" for name in reader.missing]
    elif entries.keys() | reader.asked and entries.keys().isdisjoint(reader.asked):
        problems.append(
            f"it has none of the entries {_listed(reader.asked)}, but "
            f"{_listed(entries)}"
        )
    if failure and not problems:  # otherwise it is a consequence of these
        problems.append(failure)
    if strict and not failure:
        unused = sorted(entries.keys() - reader.asked)
        problems += [f"nothing takes its entry {name!r}" for name in unused]
    return problems


def _mistaken_kind(found: Collection[str], asked: Collection[str]) -> str:
    """What to say of a file of one kind that is read as another; else nothing."""
    kind, expected = _kind(found), _kind(asked)
    if not kind or not expected or kind == expected:
        return ""
    if kind == "snapshot":
        part = min(x for x in found if x.startswith("updater/model:")).split("/")[1]
        remedy = f"pass prefix='updater/{part}/' to take the model out of it"
    elif kind == "sparse model file":
        remedy = "read it by vdcore.backends.sparse_backend.load"
    else:
        remedy = "load it into a model, or give the path of a snapshot here"
    return f"this is a {kind}, not a {expected}; {remedy}"


def _kind(names: Collection[str]) -> str:
    """Kind of file that has entries of these names; empty if it cannot be told."""
    if any(name.startswith("updater/model:") for name in names):
        return "snapshot"
    if "header" in names:
        return "sparse model file"
    if any(name.rpartition("/")[2] == "W" for name in names):
        return "model file"
    return ""


def _listed(names: Collection[str], most: int = 5) -> str:
    """The first few of some entries' names, for an error text."""
    shown = ", ".join(map(repr, sorted(names)[:most])) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def read_npz(path: str | os.PathLike[str]) -> dict[str, numpy.ndarray]:
    """Read all arrays of an ``.npz`` file, never a pickle.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, FileFormatError
        As :func:`load_npz`.
    """
    return read_arrays(path, "load_npz", "save_npz")
