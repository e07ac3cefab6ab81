"""The file of a sparse model: one ``.npz`` of plain arrays and a JSON header.

The header lists the layers, each with its kind and what it has besides arrays; the
array `W` of layer 3 is the entry ``3/W``. Older versions are still read: version 2 had
no layers of sequences, version 1 affine layers only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy
from scipy.sparse import csr_array

from vdcore.backends.sparse.images import Convolution, Flatten, Pooling
from vdcore.backends.sparse.layer import (
    ACTIVATIONS,
    Activation,
    Layer,
    Shape,
    Stage,
    WeightedStage,
)
from vdcore.backends.sparse.recurrent_layers import GATES, Embedding, Recurrent
from vdcore.backends.sparse.sequence import (
    check_order,
    check_recurrent,
    input_shape,
    is_recurrent,
    shapes,
)
from vdcore.files import FileFormatError, open_atomically, read_arrays
from vdcore.windows import Window, window

FORMAT = "vdcore sparse model"
VERSION = 3
MAPS = ("upward", "lateral")  # of a recurrent layer
KINDS: dict[str, type[Stage]] = {
    "affine": Layer,
    "convolution": Convolution,
    "pooling": Pooling,
    "activation": Activation,
    "flatten": Flatten,
    "embedding": Embedding,
    "recurrent": Recurrent,
}


def save_layers(
    path: str | os.PathLike[str], layers: Sequence[Stage], in_shape: Shape
) -> None:
    """Write a network to a file, which appears only when it is complete."""
    header = {
        "format": FORMAT,
        "version": VERSION,
        "in_shape": list(in_shape),
        "layers": list(map(_description, layers)),
    }
    entries = {
        f"{number}/{name}": array
        for number, layer in enumerate(layers)
        for name, array in layer.arrays().items()
    }
    with open_atomically(path) as file:
        numpy.savez(file, header=numpy.asarray(json.dumps(header)), **entries)


def load_layers(path: str | os.PathLike[str]) -> tuple[list[Stage], Shape]:
    """Read and check what :func:`save_layers` wrote.

    Returns
    -------
    layers : list of Stage
    in_shape : tuple of int

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
    if version not in range(1, VERSION + 1):
        _refuse(
            path, f"is of version {version!r}, and this vdcore reads 1 to {VERSION}"
        )
    try:
        layers = [
            _layer(number, description, entries)
            for number, description in enumerate(header["layers"])
        ]
        _expect(not entries, "the entries are those of the header", sorted(entries))
        in_shape = input_shape(layers)  # as the weights say; of images nothing does
        if version > 1 and in_shape != ():
            in_shape = _sizes("an in_shape", header["in_shape"], least=1)
        if is_recurrent(layers):
            check_recurrent(layers)
        else:
            check_order(layers)
            shapes(layers, in_shape)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        _refuse(path, f"is damaged: {error}", error)
    return layers, in_shape


def _description(layer: Stage) -> dict[str, Any]:
    """What the header says of a layer."""
    (kind,) = (kind for kind, cls in KINDS.items() if type(layer) is cls)
    said: dict[str, Any] = {"kind": kind, "name": layer.name}
    if isinstance(layer, Recurrent):
        maps = {key: _description(getattr(layer, key)) for key in MAPS}
        return said | {"cell": layer.cell, "maps": maps}
    if isinstance(layer, WeightedStage):
        said |= {"shape": list(layer.W.shape), "arrays": sorted(layer.arrays())}
    if isinstance(layer, WeightedStage | Activation):
        said |= {"activation": layer.activation}
    if isinstance(layer, Convolution | Pooling):
        said |= {"window": list(map(list, layer.window))}
    if isinstance(layer, Convolution):
        said |= {"groups": layer.groups}
    if isinstance(layer, Pooling):
        said |= {"pooling": layer.kind, "cover_all": layer.cover_all}
    return said


def _layer(
    place: int | str, said: dict[str, Any], entries: dict[str, numpy.ndarray]
) -> Any:
    """The layer that a header describes, of the entries at a place."""
    name, kind = said["name"], said.get("kind", "affine")
    where = f"layer {name!r}:"
    _expect(isinstance(name, str), f"{where} a name", name)
    _expect(kind in KINDS, f"{where} a known kind", kind)
    if kind == "flatten":
        return Flatten(name)
    if kind == "pooling":
        pooling, cover_all, moved = said["pooling"], said["cover_all"], _window(said)
        _expect(pooling in ("max", "average"), f"{where} a known pooling", pooling)
        known = cover_all in ((True, False) if pooling == "max" else (False,))
        _expect(known, f"{where} a cover_all that it can have", cover_all)
        _expect(moved.dilate == (1, 1), f"{where} no dilation", moved.dilate)
        return Pooling(name, pooling, moved, cover_all)
    if kind == "recurrent":
        cell, maps = said["cell"], said["maps"]
        _expect(cell in GATES, f"{where} a known cell", cell)
        upward, lateral = (_layer(f"{place}/{m}", maps[m], entries) for m in MAPS)
        affine = isinstance(upward, Layer) and isinstance(lateral, Layer)
        _expect(affine, f"{where} affine maps", maps)
        return Recurrent(name, cell, upward, lateral)
    activation = said["activation"]
    _expect(activation in ACTIVATIONS, f"{where} a known activation", activation)
    if kind == "activation":
        return Activation(name, activation)
    arrays = {key: entries.pop(f"{place}/{key}") for key in said["arrays"]}
    shape = _sizes(f"{where} a shape", said["shape"], length=2)
    b = arrays.pop("b", None)
    if b is not None:
        maps = kind == "convolution" and b.ndim == 3  # their size goes with in_shape
        sizes = (shape[0], *b.shape[1:]) if maps else shape[:1]
        _check_array(f"{where} b", b, ("float32",), sizes)
    W = _weights(where, arrays, shape)
    if kind == "embedding":
        _expect(b is None and activation == "identity", f"{where} vectors alone", said)
        return Embedding(name, W)
    if kind == "affine":
        return Layer(name, W, b, activation)
    moved, groups = _window(said), said["groups"]
    whole = type(groups) is int and groups > 0 and shape[0] % groups == 0
    _expect(whole, f"{where} groups that divide {shape[0]} outputs", groups)
    whole = shape[1] % math.prod(moved.size) == 0
    _expect(whole, f"{where} a window that divides {shape[1]} columns", moved.size)
    _expect(activation != "softmax", f"{where} no softmax", activation)
    return Convolution(name, W, b, activation, window=moved, groups=groups)


def _weights(where: str, arrays: dict[str, numpy.ndarray], shape: Shape) -> Any:
    out_size, in_size = shape
    if set(arrays) == {"W"}:
        W = arrays["W"]
        _check_array(f"{where} W", W, ("float32",), shape)
        return W
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
    largest = int(indices.max()) if indices.size else -1
    _expect(largest < in_size, f"{where} indices below {in_size}", largest)
    index_type = numpy.int32 if in_size < 2**31 else numpy.int64
    return csr_array((values, indices.astype(index_type), indptr), shape=shape)


def _window(said: dict[str, Any]) -> Window:
    """The window of a layer; its own errors say what is wrong with it."""
    size, stride, pad, dilate = said["window"]
    return window(f"layer {said['name']!r}", size, stride, pad, dilate)


def _sizes(
    what: str, sizes: Any, *, least: int = 0, length: int | None = None
) -> Shape:
    whole = isinstance(sizes, list) and all(
        type(size) is int and size >= least for size in sizes
    )
    right = whole and sizes and (length is None or len(sizes) == length)
    _expect(right, f"{what} of positive integers", sizes)
    return tuple(sizes)


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
