"""CIFAR-10 and CIFAR-100: 32x32 colour images, in the archives for Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from vdcore.datasets.archive import read_files
from vdcore.datasets.content import unusable
from vdcore.datasets.images import check_splits, image_dataset
from vdcore.datasets.plain_pickle import read_plain_pickle
from vdcore.datasets.source import Source
from vdcore.datasets.tuple_dataset import TupleDataset


def _source(name: str, archive: str, checksum: str, unpacked: str) -> Source:
    url = "https://www.cs.toronto.edu/~kriz/"
    return Source(name, url, {archive: checksum}, unpacked)


CIFAR10 = _source(
    "cifar10",
    "cifar-10-python.tar.gz",
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "cifar-10-batches-py",
)
CIFAR100 = _source(
    "cifar100",
    "cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    "cifar-100-python",
)
CIFAR10_FILES = {
    "train": [f"data_batch_{i}" for i in range(1, 6)],
    "test": ["test_batch"],
}
CIFAR100_FILES = {"train": ["train"], "test": ["test"]}
CLASSES = {"labels": 10, "fine_labels": 100, "coarse_labels": 20}


def get_cifar10(
    withlabel: bool = True,
    ndim: int = 3,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    splits: Sequence[str] = ("train", "test"),
) -> tuple[TupleDataset | numpy.ndarray, ...]:
    """Return CIFAR-10 as (train, test) of 50,000 and 10,000 images in ten classes.

    With the environment variable ``VDCORE_DATASET_ROOT`` it is read from the folder
    ``$VDCORE_DATASET_ROOT/cifar10/``, where ``cifar-10-python.tar.gz`` must lie, or
    unpacked ``cifar-10-batches-py/``; and otherwise from the user's cache, into which
    the archive is downloaded once.

    Parameters
    ----------
    withlabel : bool
        Whether to return TupleDatasets of images and labels, or the images alone.
    ndim : 1 or 3
        Shape of an image: ``(3072,)`` or ``(3, 32, 32)``: channel (red, green, blue),
        row, column.
    scale : float
        The images' values run from 0 to this.
    dtype, label_dtype : dtype
        Of images (a floating type) and labels (an integer type).
    splits : sequence of "train" and "test"
        The halves wanted, in this order; only their files are read.

    Raises
    ------
    FileNotFoundError
        If ``VDCORE_DATASET_ROOT`` is set and lacks a file.
    OSError
        If the archive cannot be downloaded.
    ValueError
        If an argument is none of the above, or a file is damaged or not what its name
        says. The message names the file.

    Notes
    -----
    The files are pickles, which can run programs; see
    :func:`vdcore.datasets.plain_pickle.read_plain_pickle` for why these cannot.
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
    """
    form = withlabel, ndim, scale, dtype, label_dtype
    return _load(CIFAR10, CIFAR10_FILES, "labels", splits, *form)


def get_cifar100(
    withlabel: bool = True,
    ndim: int = 3,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    splits: Sequence[str] = ("train", "test"),
    labels: str = "fine",
) -> tuple[TupleDataset | numpy.ndarray, ...]:
    """Return CIFAR-100, as :func:`get_cifar10` returns CIFAR-10.

    The folder is ``cifar100``, the archive ``cifar-100-python.tar.gz`` and that
    unpacked ``cifar-100-python/``.

    Parameters
    ----------
    withlabel, ndim, scale, dtype, label_dtype, splits
        As for :func:`get_cifar10`.
    labels : {"fine", "coarse"}
        Whether an image's label is its class, of 100, or the group of five classes
        that this belongs to, of 20.
    """
    if labels not in {"fine", "coarse"}:
        message = f"cifar100: `labels` must be 'fine' or 'coarse', got {labels!r}"
        raise ValueError(message)
    form = withlabel, ndim, scale, dtype, label_dtype
    return _load(CIFAR100, CIFAR100_FILES, f"{labels}_labels", splits, *form)


def _load(source, files, key, splits, withlabel, ndim, scale, dtype, label_dtype):
    check_splits(source.name, splits)
    (archive,) = source.sha256
    place = source.find(archive)
    names = [name for split in splits for name in files[split]]
    batches = {
        path.name: _read_batch(path, content, key)
        for path, content in read_files(place, source.unpacked, names)
    }

    def half(split):
        parts = zip(*(batches[name] for name in files[split]), strict=True)
        images, labels = map(numpy.concatenate, parts)
        return image_dataset(
            images,
            labels,
            255,
            withlabel=withlabel,
            ndim=ndim,
            scale=scale,
            dtype=dtype,
            label_dtype=label_dtype,
        )

    return tuple(map(half, splits))


def _read_batch(
    path: Path, content: bytes, key: str
) -> tuple[numpy.ndarray, numpy.ndarray]:
    try:
        batch = read_plain_pickle(content)
    except ValueError as error:
        raise unusable(path, "a pickled batch of images", str(error)) from error
    if not {"data", key} <= batch.keys():
        expected = f"entries 'data' and {key!r}"
        raise unusable(path, expected, ", ".join(map(repr, batch)) or "none")
    data = batch["data"]
    shape: tuple[int, ...] = getattr(data, "shape", ())
    if shape[1:] != (3072,) or shape[0] == 0:
        actual = f"{shape}" if shape else type(data).__name__
        raise unusable(path, "'data' of shape (n, 3072) and dtype uint8", actual)
    return data.reshape(-1, 3, 32, 32), _checked(path, key, batch[key], len(data))


def _checked(path: Path, key: str, labels: Any, size: int) -> numpy.ndarray:
    if type(labels) is not list or len(labels) != size:
        actual = f"{len(labels)}" if type(labels) is list else type(labels).__name__
        expected = f"a list of {size} {key}, one for each image"
        raise unusable(path, expected, actual)
    for position, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES[key]:
            expected = f"{key} from 0 to {CLASSES[key] - 1}"
            raise unusable(path, expected, f"{label!r:.60} at position {position}")
    return numpy.asarray(labels, numpy.uint8)
