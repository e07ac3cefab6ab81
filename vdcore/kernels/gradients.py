"""Sums of gradients that reach an array in several ways."""

from __future__ import annotations

from vdcore.arrays import Array
from vdcore.kernels.table import Kernel


@Kernel
def add_each(first: list[Array], second: list[Array]) -> list[Array]:
    """Sums of two lists of arrays, those of one position of one shape and dtype.

    A new array each: of what is added, others may take a gradient too.
    """
    return [a + b for a, b in zip(first, second, strict=True)]
