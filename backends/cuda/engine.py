"""Convolutions by whichever engine can do them: cuDNN, or else products of matrices.

What an engine is, :mod:`~vdcore.backends.cuda.unfolding` says. cuDNN is asked once for
each operation on each geometry; ``config.use_cudnn`` says whether at all.
"""

from __future__ import annotations

from typing import Any

import cupy

from vdcore.backends.cuda import cudnn_engine, unfolding
from vdcore.backends.cuda.cudnn_library import UnsupportedError
from vdcore.configuration import config
from vdcore.windows import Window

CHOICES = ("auto", "always", "never")


def products(
    x: cupy.ndarray, weights: cupy.ndarray, window: Window, groups: int
) -> cupy.ndarray:
    """As ``unfolding.products``."""
    return _by_either("products", x, weights, window, groups)


def weight_products(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """As ``unfolding.weight_products``."""
    return _by_either("weight_products", x, slopes, shape, window, groups)


def input_gradient(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    weights: cupy.ndarray,
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """As ``unfolding.input_gradient``."""
    return _by_either("input_gradient", x, slopes, weights, window, groups)


def _by_either(operation: str, *arguments: Any) -> cupy.ndarray:
    choice = config.use_cudnn
    if choice not in CHOICES:
        message = f"config.use_cudnn must be one of {CHOICES}, got {choice!r}"
        raise ValueError(message)
    if choice != "never":
        try:
            return getattr(cudnn_engine, operation)(*arguments)
        except UnsupportedError as error:
            if choice == "always":
                message = f"convolution: config.use_cudnn is 'always', but {error}"
                raise RuntimeError(message) from error
    return getattr(unfolding, operation)(*arguments)
