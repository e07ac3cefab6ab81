"""cuDNN and its Python frontend, where they are installed."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import cupy

OLDEST = (1, 14)  # frontend


class UnsupportedError(Exception):
    """What cuDNN cannot do here; nothing that matters has been done then."""


def frontend() -> Any:
    """The module ``cudnn``.

    Raises
    ------
    UnsupportedError
        If it, or the library that it is for, is not installed.
    ImportError
        If it is too old.
    """
    found = _imported()
    if isinstance(found, str):
        raise UnsupportedError(found)
    return found


@functools.cache
def handle(device: int, thread: int) -> Any:
    """A handle of the current device; cuDNN wants one for each thread."""
    return frontend().create_handle()


@functools.cache
def _imported() -> ModuleType | str:
    """The module, or why there is none."""
    # cuDNN needs cuBLAS, which CuPy finds in more places, and ends the process where it
    # does not find it.
    cupy.cuda.get_cublas_handle()
    try:
        import cudnn
    except (ImportError, OSError) as error:
        return f"the Python module cudnn cannot be imported: {error}"
    version = tuple(map(int, cudnn.__version__.split(".")[:2]))
    if version < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        message = (
            f"convolutions need nvidia-cudnn-frontend {oldest} or later, got "
            f"{cudnn.__version__}: upgrade it, or set vdcore.config.use_cudnn = 'never'"
        )
        raise ImportError(message)
    try:
        cudnn.backend_version()
    except RuntimeError as error:
        return f"the library of cuDNN cannot be loaded: {error}"
    return cudnn
