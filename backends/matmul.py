"""Independent matrix products at once, each on cores of its own.

The mean and the variance of a noisy layer are two products of the same size, and so
are their gradients. Two single-threaded BLAS calls side by side finish sooner than two
multi-threaded ones in turn: nothing has to be divided, and no BLAS thread is left
spinning on a core that the next kernel wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy

from vdcore.backends.threads import in_parallel, thread_count

# Multiply-adds of one product: below the first OpenBLAS starts no threads itself, below
# the second handing a product to a thread costs more than it saves.
SMALL, PARALLEL_FROM = 262_144, 2_000_000


def products(*factors: tuple[numpy.ndarray, numpy.ndarray]) -> list[numpy.ndarray]:
    """``[a @ b for a, b in factors]`` of matrices of one dtype."""
    threads = thread_count()
    size = min(a.shape[0] * a.shape[1] * b.shape[1] for a, b in factors)
    if threads == 1 or size < SMALL or _openblas() is None:
        return [a @ b for a, b in factors]
    with _single_threaded_blas():
        if size < PARALLEL_FROM:
            return [a @ b for a, b in factors]
        results = [numpy.empty((len(a), b.shape[1]), a.dtype) for a, b in factors]
        parts = max(1, threads // len(factors))
        jobs = [
            (a[rows], b, result[rows])
            for (a, b), result in zip(factors, results, strict=True)
            for rows in _slices(len(a), parts)
        ]

        def work(first: int, last: int) -> None:
            for a, b, out in jobs[first:last]:
                numpy.matmul(a, b, out=out)

        share = [len(jobs) * part // threads for part in range(threads + 1)]
        in_parallel(work, sorted(set(share)))
    return results


def _slices(size: int, parts: int) -> list[slice]:
    bounds = [size * part // parts for part in range(parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


@cache
def _openblas() -> Any:
    """Handle of NumPy's own OpenBLAS; None without it, or without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    controllers = ThreadpoolController().select(internal_api="openblas").lib_controllers
    return next((each for each in controllers if "numpy" in each.filepath), None)


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    before = _openblas().get_num_threads()
    _openblas().set_num_threads(1)
    try:
        yield
    finally:
        _openblas().set_num_threads(before)
