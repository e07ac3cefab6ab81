"""The doctests of backends/, imported by the name they have for users."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

BACKENDS = Path(__file__).resolve().parents[2] / "backends"
NAMES = sorted(
    ".".join(path.relative_to(BACKENDS).with_suffix("").parts)
    for path in BACKENDS.rglob("[!_]*.py")
)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_docstrings(name, monkeypatch):
    monkeypatch.setenv("MPI4PY_RC_INITIALIZE", "false")  # a process of tests may fork
    try:
        module = importlib.import_module(f"vdcore.backends.{name}")
    except ImportError as error:
        # Only a library that the file adapts may be missing, or a part of it.
        library = error.name.partition(".")[0]
        if library not in {"cupy", "jax", "llvmlite", "mpi4py", "numba", "torch"}:
            raise
        pytest.skip(f"needs {error.name}")
    assert doctest.testmod(module).failed == 0
