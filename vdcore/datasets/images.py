"""From the pixels of a file to the arrays that a network takes."""

from __future__ import annotations

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
    """Scale grey images and give them the shape asked for.

    Parameters
    ----------
    images : array, shape (n, height, width)
        Grey levels from 0 to `white`.
    labels : array, shape (n,)
    white : int
        The level that becomes `scale`.
    withlabel : bool
        Whether to return a TupleDataset of images and labels, or the images alone.
    ndim : 1, 2 or 3
        Dimensions of one image: ``height * width``, ``(height, width)`` or, with one
        channel as a convolution wants it, ``(1, height, width)``.
    scale : float
        The images' values run from 0 to this.
    dtype, label_dtype : dtype
        A floating and an integer type.

    Raises
    ------
    ValueError
        If `ndim` or a dtype is none of these.
    """
    n, height, width = images.shape
    shapes = {1: (height * width,), 2: (height, width), 3: (1, height, width)}
    if ndim not in shapes:
        message = f"images: `ndim` must be 1, 2 or 3, got {ndim!r}"
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
