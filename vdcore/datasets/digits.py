"""scikit-learn's handwritten digits: real data with nothing to download."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore.datasets.images import image_dataset
from vdcore.datasets.tuple_dataset import TupleDataset

TEST_SIZE = 360  # of 1797: a fifth


def get_digits(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: Any = numpy.float32,
    label_dtype: Any = numpy.int32,
    *,
    seed: int = 0,
) -> tuple[TupleDataset | numpy.ndarray, TupleDataset | numpy.ndarray]:
    """Return the 1797 digits of 8x8 pixels as (train, test), 1437 and 360 of them.

    Parameters
    ----------
    withlabel, ndim, scale, dtype, label_dtype
        As for :func:`get_mnist`; an image has 64 values.
    seed : int
        Decides which examples are test examples. Both parts hold the ten classes in the
        proportions of the whole.

    Raises
    ------
    ImportError
        If scikit-learn, which holds the data, is not installed.

    Notes
    -----
    The data are the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of
    Handwritten Digits" (UCI Machine Learning Repository, 1998).
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        message = (
            "get_digits: the data come with scikit-learn, which is not installed; "
            'run `pip install "vdcore[examples]"`'
        )
        raise ImportError(message) from error
    digits = load_digits()
    parts = train_test_split(
        digits.images,
        digits.target,
        test_size=TEST_SIZE,
        random_state=seed,
        stratify=digits.target,
    )
    train_images, test_images, train_labels, test_labels = parts

    def prepare(images, labels):
        return image_dataset(
            images,
            labels,
            16,
            withlabel=withlabel,
            ndim=ndim,
            scale=scale,
            dtype=dtype,
            label_dtype=label_dtype,
        )

    return prepare(train_images, train_labels), prepare(test_images, test_labels)
