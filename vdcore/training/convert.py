"""From a batch as an iterator gives it to arrays on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from vdcore.arrays import array_namespace, is_array, to_device
from vdcore.iterators import Batch


def concat_examples(batch: Sequence[Any], device: Any = None) -> Any:
    """Make arrays with a leading batch axis from a batch.

    Parameters
    ----------
    batch : Batch or sequence of examples
        Examples are arrays or numbers, or all tuples or all dictionaries of them.
    device
        Where the arrays go; see :func:`vdcore.arrays.to_device`.

    Returns
    -------
    array, tuple or dict of arrays
        Like one example, with a first axis for the batch.

    Raises
    ------
    ValueError
        If the batch is empty, or its examples differ in their fields or shapes.

    Examples
    --------
    >>> concat_examples([(numpy.zeros(2), 3), (numpy.ones(2), 4)])
    (array([[0., 0.],
           [1., 1.]]), array([3, 4]))
    """
    if isinstance(batch, Batch):
        arrays = tuple(to_device(array, device) for array in batch)
        return arrays if len(arrays) > 1 else arrays[0]
    if len(batch) == 0:
        message = "concat_examples: `batch` must have at least one example, got none"
        raise ValueError(message)
    first = batch[0]
    if isinstance(first, tuple):
        _check_fields(batch, [len(example) for example in batch], "lengths")
        return tuple(_stack(field, device) for field in zip(*batch, strict=True))
    if isinstance(first, dict):
        _check_fields(batch, [sorted(example) for example in batch], "keys")
        return {key: _stack([e[key] for e in batch], device) for key in first}
    return _stack(batch, device)


def batch_length(batch: Sequence[Any]) -> int:
    """Number of examples in a batch of either kind."""
    return batch[0].shape[0] if isinstance(batch, Batch) else len(batch)


def _stack(values: Sequence[Any], device: Any) -> Any:
    if not is_array(values[0]):
        return to_device(numpy.asarray(values), device)
    shapes = sorted({tuple(value.shape) for value in values})
    if len(shapes) > 1:
        message = (
            "concat_examples: the examples of `batch` must have one shape, got "
            f"{' and '.join(map(str, shapes[:4]))}; pad them, or pass a `converter`"
        )
        raise ValueError(message)
    return to_device(array_namespace(*values).stack(list(values)), device)


def _check_fields(batch: Sequence[Any], fields: list[Any], what: str) -> None:
    for index, (example, names) in enumerate(zip(batch, fields, strict=True)):
        if names != fields[0] or type(example) is not type(batch[0]):
            message = (
                f"concat_examples: the examples of `batch` must agree in their {what}, "
                f"{fields[0]} in the first, got {names} in number {index}"
            )
            raise ValueError(message)
