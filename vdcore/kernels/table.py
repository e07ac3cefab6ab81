"""Which code runs a hot operation: its generic definition, or what a backend has."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from vdcore.arrays import library_name

P = ParamSpec("P")
R = TypeVar("R")


class Kernel(Generic[P, R]):
    """A function chosen by the library of its first argument, an array or list of them.

    Attributes
    ----------
    generic : callable
        The array-API definition.
    """

    def __init__(self, generic: Callable[P, R]) -> None:
        functools.update_wrapper(self, generic)
        self.generic = generic
        self._overrides: dict[str, Callable[P, R]] = {}
        self._chosen: dict[type, Callable[P, R]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the implementation for the class of the first argument."""
        cls = type(args[0])
        if cls is list:
            cls = type(args[0][0])  # type: ignore[index]
        implementation = self._chosen.get(cls)
        if implementation is None:
            implementation = self._choose(cls)
        return implementation(*args, **kwargs)

    def override(self, library: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register an implementation for a library's arrays (a decorator).

        It takes the same arguments; where it has nothing faster for them it returns
        ``kernel.generic(...)``.
        """

        def register(implementation: Callable[P, R]) -> Callable[P, R]:
            self._overrides[library] = implementation
            self._chosen.clear()
            return implementation

        return register

    def _choose(self, cls: type) -> Callable[P, R]:
        library = library_name(cls)
        load_backend(library)
        self._chosen[cls] = self._overrides.get(library, self.generic)
        return self._chosen[cls]


@functools.cache
def load_backend(library: str) -> None:
    """Import what vdcore has for the arrays of a library, if it has anything."""
    name = f"vdcore.backends.{library}_backend"
    if library in ("numpy", "cupy") and importlib.util.find_spec(name):
        importlib.import_module(name)
