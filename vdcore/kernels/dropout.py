"""Which activations dropout keeps."""

from __future__ import annotations

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like
from vdcore.kernels.table import Kernel


@Kernel
def dropout_mask(like: Array, rng: numpy.random.Generator, ratio: float) -> Array:
    """Factors that dropout multiplies by: 0, with probability `ratio`, or more than 1.

    A backend may draw other numbers from the same generator.

    Returns
    -------
    array
        ``1 / (1 - ratio)`` where an activation is kept, so that its expectation stays;
        library, device, shape and dtype of `like`.
    """
    xp = array_namespace(like)
    drawn = rng.random(tuple(like.shape), dtype=numpy.float32) >= ratio
    kept = xp.astype(asarray_like(drawn, like), like.dtype)
    return kept / (1 - ratio)
