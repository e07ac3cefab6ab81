"""Structures that kernels take by value."""

from __future__ import annotations

import numpy
import pytest

pytestmark = pytest.mark.gpu

LIMIT = 2**31


def quotient(n, divisor):
    """As ``Divisor::quotient`` in common.cuh, in 32 bits."""
    high = (n * numpy.uint64(divisor["multiplier"])) >> numpy.uint64(32)
    assert (n + high < 2**32).all()
    return (n + high) >> numpy.uint64(divisor["shift"])


def test_division_by_a_product_and_a_shift(cupy_library, rng):
    from vdcore.backends.cuda.arguments import divisor

    powers = [2**k + step for k in range(31) for step in (-1, 0, 1)]
    others = rng.integers(1, LIMIT, 300).tolist()
    for d in {n for n in powers + others if 0 < n < LIMIT}:
        multiples = numpy.arange(1, 6) * ((LIMIT - 1) // d // 5 or 1) * d
        n = numpy.concatenate(
            [multiples - 1, multiples, [0, 1, d, LIMIT - 1], rng.integers(0, LIMIT, 50)]
        )
        n = n[(n >= 0) & (n < LIMIT)].astype(numpy.uint64)
        assert (quotient(n, divisor(d)) == n // d).all(), d
