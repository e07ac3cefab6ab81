"""Weights to and from ``.safetensors`` files, which other libraries read and write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy

from vdcore.files import FileFormatError, open_atomically
from vdcore.serialization import DictionarySerializer, Keeper, NpzDeserializer

# What the parameters of torch's layers are called here; of those of LSTMs see below.
TORCH_NAMES = {
    "weight": ("W", "gamma"),
    "bias": ("b", "beta"),
    "log_sigma2": ("log_sigma2",),
    "running_mean": ("avg_mean",),
    "running_var": ("avg_var",),
}
LSTM_NAMES = {
    "weight_ih_l": "upward/W",
    "weight_hh_l": "lateral/W",
    "log_sigma2_ih_l": "upward/log_sigma2",
    "log_sigma2_hh_l": "lateral/log_sigma2",
}
OWN = ("log_sigma2", "N")  # what a plain network, or torch's, has not
LSTM_BIASES = ("bias_ih_l", "bias_hh_l")


def save_safetensors(path: str | os.PathLike[str], obj: Any) -> None:
    """Write the arrays of a link to a ``.safetensors`` file, whole or not at all.

    Parameters
    ----------
    path : path-like
        File to write; its folder is made if need be.
    obj
        A link, or anything with a method ``serialize``. Only arrays and numbers are
        written, under the names of :func:`vdcore.serializers.save_npz`.

    Raises
    ------
    ImportError
        If the package safetensors is not installed.
    """
    serializer = DictionarySerializer()
    obj.serialize(serializer)
    arrays = {
        name: numpy.asarray(array, order="C")
        for name, array in serializer.entries.items()
        if array.dtype.kind != "U"
    }
    content = _safetensors().save(arrays)
    with open_atomically(path) as file:
        file.write(content)


def load_safetensors(
    path: str | os.PathLike[str], obj: Any, *, strict: bool = True
) -> None:
    """Read the arrays of a link from a ``.safetensors`` file, all of them or nothing.

    Parameters
    ----------
    path : path-like
        Written by :func:`save_safetensors`, or by torch, whose names are understood:
        ``l1.weight`` is the entry ``l1/W`` (or ``l1/gamma``), ``l1.bias`` is ``l1/b``;
        ``lstm.weight_ih_l0`` is ``lstm/upward/W``, or ``lstm.0/upward/W`` of the first
        of several links, and both biases are added.
    obj
        A link, or anything with a method ``serialize``.
    strict : bool
        Refuse a file that lacks an array or holds one that the object has no place for.
        Without it they are passed over; that log variances are missing is no error in
        either case, so that the weights of a plain network go into a variational one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is damaged, no ``.safetensors``, or does not fit `obj`.
    ImportError
        If the package safetensors is not installed.
    """
    found = read_safetensors(path)
    expected = DictionarySerializer()
    obj.serialize(expected)
    places = [
        name for name, array in expected.entries.items() if array.dtype.kind != "U"
    ]
    entries = _translated(found, places)
    keeper = Keeper()
    obj.serialize(keeper)
    reader = NpzDeserializer(entries)
    obj.serialize(reader)
    problems = list(reader.misfits)
    if strict:
        problems += [
            f"it has no entry for {name!r}"
            for name in reader.missing
            if name in places and name.rpartition("/")[2] not in OWN
        ]
        unused = sorted(entries.keys() - reader.asked)
        problems += [f"nothing takes its entry {name!r}" for name in unused]
    elif entries.keys().isdisjoint(reader.asked):
        problems.append(f"none of its entries {sorted(found)[:5]} belongs to it")
    if problems:
        obj.serialize(keeper)
        shown = "; ".join(problems[:8])
        message = (
            f"load_safetensors: `{path}` does not fit {type(obj).__name__}: {shown}. "
            "Build the links under the names of the layers in the file"
        )
        raise FileFormatError(message)


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, numpy.ndarray]:
    """Read all arrays of a ``.safetensors`` file.

    Raises
    ------
    FileNotFoundError, FileFormatError, ImportError
        As :func:`load_safetensors`.
    """
    library = _safetensors()
    if not Path(path).is_file():
        message = f"load_safetensors: there is no file `{path}`; check the path"
        raise FileNotFoundError(message)
    try:
        return library.load_file(path)
    except Exception as error:  # its own class, and KeyError for bfloat16
        message = (
            f"load_safetensors: `{path}` is damaged, no .safetensors file, or holds "
            f"arrays that NumPy has no dtype for ({error!r}); write it again"
        )
        raise FileFormatError(message) from error


def _translated(
    found: dict[str, numpy.ndarray], places: list[str]
) -> dict[str, numpy.ndarray]:
    """Entries under the names that they have here."""
    entries: dict[str, numpy.ndarray] = {}
    for name, array in found.items():
        path, _, attribute = name.rpartition(".")
        if name in places:
            entries[name] = array
        elif attribute in TORCH_NAMES:
            names = [f"{path}/{own}".lstrip("/") for own in TORCH_NAMES[attribute]]
            own = next((own for own in names if own in places), name)
            entries[own] = array
        elif attribute.rstrip("0123456789") in (*LSTM_NAMES, *LSTM_BIASES):
            kind = attribute.rstrip("0123456789")
            number = attribute.removeprefix(kind)
            part = LSTM_NAMES.get(kind, "upward/b")
            names = [f"{path}/{part}".lstrip("/"), f"{path}.{number}/{part}"]
            own = next((own for own in names[number != "0" :] if own in places), name)
            entries[own] = entries[own] + array if own in entries else array
        elif attribute != "num_batches_tracked":
            entries[name] = array
    return entries


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        message = (
            "safetensors files need the package safetensors; run "
            '`pip install "vdcore[safetensors]"`'
        )
        raise ImportError(message) from error
    return safetensors.numpy
