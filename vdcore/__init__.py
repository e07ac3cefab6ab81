"""vdcore: sparse variational dropout on any array library.

Submodules and names load on first use, so that ``import vdcore`` is instant and a
sparse model runs with NumPy and SciPy alone.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBMODULES = (
    "arrays",
    "autodiff",
    "backends",
    "configuration",
    "datasets",
    "functions",
    "initializers",
    "inspection",
    "iterators",
    "kernels",
    "links",
    "optimizers",
    "reporter",
    "serializers",
    "testing",
    "training",
    "variational",
)
_NAMES = {
    "Chain": "chain",
    "ChainList": "chain",
    "Link": "link",
    "Parameter": "parameter",
    "Sequential": "chain",
    "config": "configuration",
    "report": "reporter",
    "seed": "configuration",
    "using_config": "configuration",
}
__all__ = sorted([*_SUBMODULES, *_NAMES])


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"vdcore.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"vdcore.{_NAMES[name]}"), name)
    message = f"module 'vdcore' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
