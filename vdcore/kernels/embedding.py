"""Rows of a table by their numbers."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def embed_forward(W: Array, ids: Array) -> Array:
    """Rows of `W`.

    Parameters
    ----------
    W : array, shape (rows, size)
    ids : array of integers, any shape
        Row numbers.

    Returns
    -------
    array, shape (*ids.shape, size)
        NaN where a number is not in ``0 .. rows - 1``.
    """
    xp = array_namespace(W, ids)
    rows, size = W.shape
    flat = xp.astype(xp.reshape(ids, (-1,)), xp.int64)  # a short one overflows below
    valid = (flat >= 0) & (flat < rows)
    taken = xp.take(W, xp.where(valid, flat, xp.zeros_like(flat)), axis=0)
    taken = xp.where(xp.expand_dims(valid, axis=1), taken, taken * xp.nan)
    return xp.reshape(taken, (*ids.shape, size))


@Kernel
def embed_backward(gy: Array, ids: Array, W: Array) -> Array:
    """Gradient of :func:`embed_forward` by `W`, shape (rows, size).

    The sum over all places of a row, the same each time. Here it is the product with a
    one-hot matrix, which any library has; a backend adds rows in place.
    """
    xp = array_namespace(gy, ids, W)
    numbers = xp.arange(W.shape[0], dtype=xp.int64)
    flat = xp.astype(xp.reshape(ids, (-1,)), xp.int64)
    onehot = xp.astype(xp.expand_dims(numbers, axis=1) == flat, gy.dtype)
    return xp.matmul(onehot, xp.reshape(gy, (-1, W.shape[1])))
