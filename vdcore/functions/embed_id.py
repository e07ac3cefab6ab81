"""Vectors of words, or of anything else that has a number."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, is_on_gpu, untraced
from vdcore.autodiff import defvjp_argnums, primitive


@primitive
def _embed_id(W, ids):
    return kernels.embed_forward(W, ids)


def _embed_id_vjp(argnums, y, args, kwargs):
    W, ids = args
    return lambda gy: [kernels.embed_backward(gy, ids, W)]


defvjp_argnums(_embed_id, _embed_id_vjp)


def embed_id(ids: Array, W: Array) -> Array:
    """Rows of a table by their numbers.

    Parameters
    ----------
    ids : array of integers, any shape
        Row numbers in ``0 .. rows - 1``.
    W : array, shape (rows, size)

    Returns
    -------
    array, shape (*ids.shape, size)

    Raises
    ------
    ValueError
        If `W` is no table, there are no numbers, or one is out of range. (On a GPU its
        row is NaN then, for to look at numbers there means to wait for it.)
    TypeError
        If one of them is no array, the numbers are no integers, or the libraries
        differ.
    """
    check_ids("embed_id", ids, W)
    return _embed_id(W, ids)


def check_ids(operation: str, ids: Array, W: Array) -> None:
    """Raise unless `ids` are numbers of rows of `W`."""
    check_array(operation, "ids", ids)
    check_array(operation, "W", W)
    xp = array_namespace(ids, untraced(W))
    shape = tuple(W.shape)
    if len(shape) != 2 or 0 in shape:
        message = (
            f"{operation}: `W` must have shape (rows, size), neither of them 0, "
            f"got {shape}"
        )
        raise ValueError(message)
    if not xp.isdtype(ids.dtype, "integral"):
        message = (
            f"{operation}: `ids` must hold integer row numbers, got {ids.dtype}; "
            "are these the numbers, not their vectors?"
        )
        raise TypeError(message)
    if 0 in ids.shape:
        message = f"{operation}: `ids` must hold a number, got shape {tuple(ids.shape)}"
        raise ValueError(message)
    if is_on_gpu(ids):
        return  # to look at numbers is to wait for the GPU; wrong ones make NaN
    low, high = int(xp.min(ids)), int(xp.max(ids))
    if low < 0 or high >= shape[0]:
        message = (
            f"{operation}: `ids` must lie in 0 .. {shape[0] - 1} for {shape[0]} rows, "
            f"got numbers from {low} to {high}"
        )
        raise ValueError(message)
