"""MNIST and two data sets of the same form: 28x28 grey images in ten classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from vdcore.datasets.content import unusable
from vdcore.datasets.idx import read_idx
from vdcore.datasets.images import check_splits, image_dataset
from vdcore.datasets.source import Source
from vdcore.datasets.tuple_dataset import TupleDataset

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def _source(name: str, url: str, *checksums: str) -> Source:
    files = (*FILES["train"], *FILES["test"])
    return Source(name, url, dict(zip(files, checksums, strict=True)))


MNIST = _source(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_MNIST = _source(
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
KMNIST = _source(
    "kmnist",
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
)


def get_mnist(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    splits: Sequence[str] = ("train", "test"),
) -> tuple[TupleDataset | numpy.ndarray, ...]:
    """Return MNIST, handwritten digits, as (train, test) of 60,000 and 10,000 images.

    The files are read from ``$VDCORE_DATASET_ROOT/mnist/`` if that environment variable
    is set, and otherwise from the user's cache, into which they are downloaded once.

    Parameters
    ----------
    withlabel : bool
        Whether to return TupleDatasets of images and labels, or the images alone.
    ndim : 1, 2 or 3
        Shape of an image: ``(784,)``, ``(28, 28)`` or ``(1, 28, 28)``.
    scale : float
        The images' values run from 0 to this.
    dtype, label_dtype : dtype
        Of images (a floating type) and labels (an integer type).
    splits : sequence of "train" and "test"
        The halves wanted, in this order; only their files are needed.

    Raises
    ------
    FileNotFoundError
        If ``VDCORE_DATASET_ROOT`` is set and lacks a file.
    OSError
        If a file cannot be downloaded.
    ValueError
        If an argument is none of the above, or a file is damaged or not what its name
        says. The message names the file.

    Notes
    -----
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    return _load(MNIST, splits, withlabel, ndim, scale, dtype, label_dtype)


def get_fashion_mnist(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    splits: Sequence[str] = ("train", "test"),
) -> tuple[TupleDataset | numpy.ndarray, ...]:
    """Return Fashion-MNIST, articles of clothing, as :func:`get_mnist` returns MNIST.

    The folder is ``fashion-mnist``. Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747.
    """
    return _load(FASHION_MNIST, splits, withlabel, ndim, scale, dtype, label_dtype)


def get_kmnist(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    splits: Sequence[str] = ("train", "test"),
) -> tuple[TupleDataset | numpy.ndarray, ...]:
    """Return Kuzushiji-MNIST, cursive Japanese, as :func:`get_mnist` returns MNIST.

    The folder is ``kmnist``. Where only the test half is at hand (it serves as foreign
    data for a network trained on MNIST), ``(test,) = get_kmnist(splits=["test"])``
    reads it; asking for the training half then is an error, never an empty data set.
    Clanuwat et al. (2018), arXiv:1812.01718.
    """
    return _load(KMNIST, splits, withlabel, ndim, scale, dtype, label_dtype)


def _load(source, splits, withlabel, ndim, scale, dtype, label_dtype):
    check_splits(source.name, splits)
    return tuple(
        image_dataset(
            *_read_half(source, split),
            255,
            withlabel=withlabel,
            ndim=ndim,
            scale=scale,
            dtype=dtype,
            label_dtype=label_dtype,
        )
        for split in splits
    )


def _read_half(source: Source, split: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    # Both are located first: a half whose second file is missing is not read in vain.
    images_path, labels_path = (source.find(file) for file in FILES[split])
    images = read_idx(images_path, ndim=3)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise unusable(images_path, "images of 28x28 pixels", f"{height}x{width}")
    labels = read_idx(labels_path, ndim=1)
    if len(labels) != len(images):
        expected = f"{len(images)} labels, one for each image in {images_path}"
        raise unusable(labels_path, expected, f"{len(labels)}")
    (foreign,) = (labels > 9).nonzero()
    if foreign.size:
        first = foreign[0]
        actual = f"{labels[first]} at position {first}"
        raise unusable(labels_path, "labels from 0 to 9", actual)
    return images, labels
