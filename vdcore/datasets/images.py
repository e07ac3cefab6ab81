"""From the pixels of a file to the arrays that a network takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from vdcore.datasets.tuple_dataset import TupleDataset


def image_dataset(
    images: numpy.ndarray,
    labels: numpy.ndarray,
    white: int,
    *,
    withlabel: bool,
    ndim: int,
    scale: float,
    dtype: Any,
    label_dtype: Any,
) -> TupleDataset | numpy.ndarray:
    """Scale images and give them the shape asked for.

    Parameters
    ----------
    images : array, shape (n, height, width) or (n, channels, height, width)
        Levels from 0 to `white`, of grey or of each colour.
    labels : array, shape (n,)
    white : int
        The level that becomes `scale`.
    withlabel : bool
        Whether to return a TupleDataset of images and labels, or the images alone.
    ndim : 1, 2 or 3
        Dimensions of one image: all its values in a row; ``(height, width)``, for
        grey ones only; or, as a convolution wants it, ``(channels, height, width)``,
        where grey is one channel.
    scale : float
        The images' values run from 0 to this.
    dtype, label_dtype : dtype
        A floating and an integer type.

    Raises
    ------
    ValueError
        If `ndim` or a dtype is none of these.
    """
    n, *shape = images.shape
    shapes: dict[int, tuple[int, ...]] = {1: (math.prod(shape),), 3: (1, *shape)[-3:]}
    known = "1 or 3 for images in colour"
    if len(shape) == 2:
        shapes[2] = (*shape,)
        known = "1, 2 or 3"
    if ndim not in shapes:
        message = f"images: `ndim` must be {known}, got {ndim!r}"
        raise ValueError(message)
    if not numpy.issubdtype(dtype, numpy.floating):
        message = (
            f"images: `dtype` must be a floating type, got {numpy.dtype(dtype)}: the "
            f"values run from 0 to `scale` = {scale}"
        )
        raise ValueError(message)
    if not numpy.issubdtype(label_dtype, numpy.integer):
        message = (
            "images: `label_dtype` must be an integer type, got "
            f"{numpy.dtype(label_dtype)}"
        )
        raise ValueError(message)
    pixels = images.reshape(n, *shapes[ndim]).astype(dtype)
    pixels *= scale / white
    if withlabel:
        return TupleDataset(pixels, labels.astype(label_dtype))
    return pixels


def check_splits(name: str, splits: Sequence[str]) -> None:
    """Raise unless `splits`, an argument for data set `name`, lists known halves.

    Raises
    ------
    ValueError
        If it is a string, or has an entry that is neither "train" nor "test".
    """
    if isinstance(splits, str) or not set(splits) <= {"train", "test"}:
        message = (
            f"{name}: `splits` must be a sequence of 'train' and 'test', got {splits!r}"
        )
        raise ValueError(message)
