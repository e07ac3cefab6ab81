"""The JAX example runs end to end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vdcore.backends import sparse_backend

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples/jax/train_digits.py"
# Three epochs take less time than to compile for speed, by XLA or numba.
FAST = {
    "PYTHONPATH": str(ROOT),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "VDCORE_NUMBA": "0",
}


@pytest.fixture(autouse=True)
def _installed():
    for library in ("jax", "sklearn"):
        pytest.importorskip(library, reason=f"the example needs {library}")


def test_three_epochs(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, "-e", "3", "-o", tmp_path],
        env=os.environ | FAST,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == "epoch loss test error % sparsity".split()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    error = float(re.search(r"test error pruned: (\S+) %", result.stdout)[1])
    assert error < 40  # by chance 90
    assert "size at log alpha threshold 3:" in result.stdout
    difference = float(re.search(r"scores within (\S+) of JAX", result.stdout)[1])
    assert difference < 1e-3
    kept = re.search(r"weights +\S+x +(\S+) of 33,800", result.stdout)[1]
    sparse = sparse_backend.load(tmp_path / "model_sparse.npz")
    assert sum(layer.kept for layer in sparse.layers) == int(kept.replace(",", ""))
