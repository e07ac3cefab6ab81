"""Running statistics of a model, through steps that are to leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vdcore.arrays import Array, array_namespace, is_array
from vdcore.link import Link
from vdcore.optimizers import NonFiniteLossError


def floating_persistents(model: Link) -> list[Array]:
    """Persistent arrays of a model that hold real numbers, such as running averages."""
    return [
        value
        for _, value in model.namedpersistents()
        if is_array(value)
        and array_namespace(value).isdtype(value.dtype, "real floating")
    ]


@contextmanager
def restoring_statistics(model: Link) -> Iterator[None]:
    """Put running statistics back if the loss in the ``with`` block is not finite."""
    statistics = floating_persistents(model)
    before = [array + 0 for array in statistics]
    try:
        yield
    except NonFiniteLossError:
        for array, old in zip(statistics, before, strict=True):
            array[...] = old
        raise
