"""Checks of arguments, made when a function is called or traced."""

from __future__ import annotations

from typing import Any

import jax

from vdcore.arrays import check_array, library_name


def check_jax_array(operation: str, argument: str, x: Any) -> None:
    """Raise TypeError unless `x` is an array of JAX, or one that it traces."""
    check_array(operation, argument, x)
    library = library_name(type(x))
    if library != "jax":
        message = (
            f"{operation}: `{argument}` must be an array of JAX, got one of {library}; "
            "convert it by jax.numpy.asarray"
        )
        raise TypeError(message)


def check_key(operation: str, key: Any) -> None:
    """Raise unless `key` is one key of JAX's random numbers, of the new or old kind.

    Raises
    ------
    TypeError
        If it is no key.
    ValueError
        If it is more than one.
    """
    dtype = getattr(key, "dtype", None)
    is_new = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if not is_new and (dtype != "uint32" or not key.shape):
        message = (
            f"{operation}: `key` must be a key of JAX's random numbers, got "
            f"{type(key).__name__} {key!r:.40}; make one by jax.random.key(seed)"
        )
        raise TypeError(message)
    keys = tuple(key.shape) if is_new else tuple(key.shape[:-1])
    if keys:
        message = (
            f"{operation}: `key` must be one key, got keys of shape {keys}; give one "
            "of them, or map the call over them by jax.vmap"
        )
        raise ValueError(message)


def check_shape(
    operation: str, argument: str, x: Any, expected: str, is_right: bool
) -> None:
    """Raise the ValueError of a shape that does not fit."""
    if not is_right:
        message = (
            f"{operation}: `{argument}` must have shape {expected}, got "
            f"{tuple(x.shape)}; reshape or transpose it"
        )
        raise ValueError(message)
