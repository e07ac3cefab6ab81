"""Compile CPU kernels with numba: when first called, kept on disk, if it is installed.

numba takes half a second to import and kernels take seconds to compile, so neither
happens before a kernel is needed. Compiled code is kept beside the source, in the
user's cache directory where that is read-only, and in memory where neither can be
written. The environment variable ``VDCORE_NUMBA=0`` turns numba off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import vdcore

FOLDER = Path(__file__).resolve().parents[1]  # of all backends

# Sums may be reordered and products fused into them, which vector code needs. Not
# `True`: that would also let the compiler assume that no value is NaN or infinite.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


def numba_or_none() -> ModuleType | None:
    """Return numba; None where it is not installed or ``VDCORE_NUMBA`` is 0."""
    if os.environ.get("VDCORE_NUMBA") == "0":
        return None
    try:
        import numba
    except ImportError:
        return None
    return numba


def jit(*signatures: Any, **options: Any) -> Callable[[Callable], Kernel]:
    """Decorate a function that numba compiles for each new set of argument types.

    Parameters
    ----------
    *signatures
        Numba signatures, to compile for these only and convert other arguments.
    **options
        Of ``numba.njit``, over the defaults: cached, without the interpreter's lock,
        :data:`FASTMATH`, and division by zero as in C. Kernels outside this folder
        that call kernels within need ``cache=False``: numba keeps them by the date of
        their own file.
    """
    return lambda function: Kernel(function, signatures, options)


class Kernel:
    """A function and, from its first call on, the code that numba made of it.

    Kernels may call one another. Choose between a kernel and other code by
    :func:`numba_or_none`: to call a kernel without numba is an error.

    Attributes
    ----------
    function : callable
        What was decorated, as the interpreter runs it.
    """

    def __init__(
        self, function: Callable, signatures: tuple, options: dict[str, Any]
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._signatures = list(signatures) or None
        self._options = options

    def __call__(self, *args: Any) -> Any:
        """Run the compiled code."""
        return self.compiled(*args)

    @functools.cached_property
    def compiled(self) -> Any:
        """The dispatcher; to call it directly saves a tenth of a microsecond."""
        numba = numba_or_none()
        if numba is None:
            message = (
                f"{self.function.__name__}: this kernel needs numba, which is not "
                'installed or switched off by VDCORE_NUMBA=0; run `pip install "'
                'vdcore[cpu]"`'
            )
            raise RuntimeError(message)
        options = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy"}
        # Or the compiler would inline functions that it has just compiled, and leave
        # those from the disk as calls: with other roundings, so that a run would go on
        # with other last bits in the next process.
        options |= {"forceinline": True} | self._options
        # What was imported before a source changed must not be kept as made of it.
        cache = options.pop("cache", True) and _version() == _IMPORTED
        try:
            if cache:
                self._forget_outdated(numba)
            return numba.njit(self._signatures, cache=cache, **options)(self.function)
        except RuntimeError:  # numba found no place that it could write to
            return numba.njit(self._signatures, **options)(self.function)

    def _forget_outdated(self, numba: Any) -> None:
        """Delete compiled code that other versions of these sources left.

        Numba compiles a kernel again when the kernel's own file has changed, but knows
        nothing of functions and constants that it takes from other files.
        """
        if Path(self.function.__code__.co_filename).is_relative_to(FOLDER):
            _empty_outdated(
                Path(str(numba.njit(cache=True)(self.function).stats.cache_path))
            )

    @property
    def _numba_type_(self) -> Any:
        """What numba asks of a global that the kernel it compiles refers to."""
        return self.compiled._numba_type_


def _version() -> str:
    """What tells these sources from others: names, sizes and dates of the files."""
    constants = Path(vdcore.__file__).parent / "variational" / "kl.py"
    digest = hashlib.sha256()
    for source in (*sorted(FOLDER.rglob("*.py")), constants):
        status = source.stat()
        digest.update(f"{source} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


_IMPORTED = _version()


@functools.cache
def _empty_outdated(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a read-only one
        stamp = folder / "vdcore.stamp"
        if not stamp.exists() or stamp.read_text() != _IMPORTED:
            folder.mkdir(parents=True, exist_ok=True)
            for file in folder.glob("*.nb[ci]"):
                file.unlink(missing_ok=True)
            stamp.write_text(_IMPORTED)
