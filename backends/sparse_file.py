"""The file of a sparse model: one ``.npz`` of plain arrays and a JSON header."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy
from scipy.sparse import csr_array

from vdcore.backends.sparse_layer import ACTIVATIONS, Layer
from vdcore.files import FileFormatError, open_atomically, read_arrays

FORMAT = "vdcore sparse model"
VERSION = 1


def save_layers(path: str | os.PathLike[str], layers: Sequence[Layer]) -> None:
    """Write `layers` to a file, which appears only when it is complete."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.W.shape),
                "activation": layer.activation,
                "arrays": sorted(layer.arrays()),
            }
            for layer in layers
        ],
    }
    entries = {
        f"{number}/{name}": array
        for number, layer in enumerate(layers)
        for name, array in layer.arrays().items()
    }
    with open_atomically(path) as file:
        numpy.savez(file, header=numpy.asarray(json.dumps(header)), **entries)


def load_layers(path: str | os.PathLike[str]) -> list[Layer]:
    """Read and check what :func:`save_layers` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If `path` is a folder.
    FileFormatError
        A ValueError, if it is no sparse model, is damaged, or holds what a model
        cannot.
    """
    entries = read_arrays(path, "load", "`model.to_cpu_sparse().save(path)`")
    try:
        header = json.loads(str(entries.pop("header")))
        kind, version = header["format"], header["version"]
    except (KeyError, TypeError, ValueError) as error:
        found = ", ".join(sorted(entries)[:5]) or "nothing"
        _refuse(path, f"has no header of one, but {found}", error)
    if kind != FORMAT:
        _refuse(path, f"is of the format {kind!r}")
    if version != VERSION:
        _refuse(path, f"is of version {version!r}, and this vdcore reads {VERSION}")
    try:
        layers = [
            _layer(number, description, entries)
            for number, description in enumerate(header["layers"])
        ]
        _expect(not entries, "the entries are those of the header", sorted(entries))
        check_sequence(layers)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        _refuse(path, f"is damaged: {error}", error)
    return layers


def check_sequence(layers: Sequence[Layer]) -> None:
    """Check that layers follow one another.

    Raises
    ------
    ValueError
        If there are none, a width is not that of the layer before, or a softmax is not
        at the end.
    """
    _expect(layers, "there is a layer", 0)
    for before, after in pairwise(layers):
        size, expected = after.W.shape[1], before.W.shape[0]
        text = f"layer `{after.name}` takes the {expected} outputs of `{before.name}`"
        _expect(size == expected, text, size)
        text = f"only the last layer has a softmax, not `{before.name}`"
        _expect(before.activation != "softmax", text, before.activation)


def _layer(
    number: int, description: dict[str, Any], entries: dict[str, numpy.ndarray]
) -> Layer:
    name, activation = description["name"], description["activation"]
    arrays = {key: entries.pop(f"{number}/{key}") for key in description["arrays"]}
    out_size, in_size = shape = tuple(description["shape"])
    where = f"layer {name!r}:"
    _expect(isinstance(name, str), f"{where} a name", name)
    _expect(activation in ACTIVATIONS, f"{where} a known activation", activation)
    whole = all(type(size) is int and size > 0 for size in shape)
    _expect(whole, f"{where} a shape of positive integers", shape)
    b = arrays.pop("b", None)
    if b is not None:
        _check_array(f"{where} b", b, ("float32",), (out_size,))
    if set(arrays) == {"W"}:
        W = arrays["W"]
        _check_array(f"{where} W", W, ("float32",), shape)
        return Layer(name, W, b, activation)
    _expect(
        set(arrays) == {"values", "indices", "indptr"},
        f"{where} either W, or values, indices and indptr",
        sorted(arrays),
    )
    values, indices, indptr = (arrays[key] for key in ("values", "indices", "indptr"))
    kept = values.shape
    _check_array(f"{where} values", values, ("float32",), (values.size,))
    _check_array(f"{where} indices", indices, ("uint16", "uint32"), kept)
    _check_array(f"{where} indptr", indptr, ("int32",), (out_size + 1,))
    rises = (
        indptr[0] == 0
        and indptr[-1] == values.size
        and numpy.all(numpy.diff(indptr) >= 0)
    )
    _expect(rises, f"{where} indptr that rises from 0 to {values.size}", indptr)
    largest = int(indices.max(initial=0))
    _expect(largest < in_size, f"{where} indices below {in_size}", largest)
    index_type = numpy.int32 if in_size < 2**31 else numpy.int64
    W = csr_array((values, indices.astype(index_type), indptr), shape=shape)
    return Layer(name, W, b, activation)


def _check_array(
    what: str, array: numpy.ndarray, dtypes: Sequence[str], shape: tuple[int, ...]
) -> None:
    _expect(array.dtype in dtypes, f"{what} of {' or '.join(dtypes)}", array.dtype)
    _expect(array.shape == shape, f"{what} of shape {shape}", array.shape)
    finite = array.dtype != numpy.float32 or numpy.isfinite(array).all()
    _expect(finite, f"{what} of finite values", "others")


def _expect(condition: Any, expected: str, actual: Any) -> None:
    if not condition:
        message = f"expected {expected}; got {actual}"
        raise ValueError(message)


def _refuse(
    path: str | os.PathLike[str], what: str, cause: BaseException | None = None
) -> NoReturn:
    message = (
        f"load: `{os.fspath(path)}` is no sparse model: it {what}. Write one with "
        "`model.to_cpu_sparse().save(path)`"
    )
    raise FileFormatError(message) from cause
