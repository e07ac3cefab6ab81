"""Draws that sampled weights and activations are made of."""

from __future__ import annotations

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like
from vdcore.kernels.table import Kernel


@Kernel
def standard_normal(
    like: Array, rng: numpy.random.Generator, shape: tuple[int, ...]
) -> Array:
    """Standard normal draws of the library, device and dtype of `like`.

    A backend may draw other numbers from the same generator.
    """
    xp = array_namespace(like)
    drawn = numpy.float64 if like.dtype == xp.float64 else numpy.float32
    noise = asarray_like(rng.standard_normal(shape, dtype=drawn), like)
    return noise if noise.dtype == like.dtype else xp.astype(noise, like.dtype)
