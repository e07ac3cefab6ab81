from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from vdcore.backends.cpu.jit import jit, numba_or_none

ROOT = Path(__file__).resolve().parents[3]
needs_numba = pytest.mark.skipif(
    numba_or_none() is None, reason="numba is not installed"
)


@jit()
def double(x):
    return x * 2


@jit()
def total(x):
    result = 0.0
    for j in range(x.size):
        result += double(x[j])
    return result


@needs_numba
def test_kernels_call_kernels():
    assert total(numpy.asarray([1.0, 2.0])) == 6
    assert numpy.isnan(total(numpy.asarray([1.0, numpy.nan])))


@needs_numba
def test_signature_converts_arguments():
    from numba import types

    kernel = jit(types.float64(types.float64))(lambda x: x / 2)
    assert kernel(3) == 1.5


def test_switched_off(monkeypatch):
    monkeypatch.setenv("VDCORE_NUMBA", "0")
    assert numba_or_none() is None
    kernel = jit()(lambda x: x)
    with pytest.raises(RuntimeError, match=r'pip install "vdcore\[cpu\]"'):
        kernel(1)


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import kernel
assert "numba" not in sys.modules
print(kernel.triple(2), kernel.triple.compiled.stats.cache_path)
"""
KERNEL = """
from vdcore.backends.cpu.jit import jit

@jit()
def triple(x):
    return x * 3
"""


@needs_numba
@pytest.mark.skipif(sys.platform == "win32", reason="folders by their modes")
@pytest.mark.parametrize("place", ["beside", "user", "nowhere"])
def test_where_compiled_code_is_kept(tmp_path, place):
    # A file where numba would make a folder is what it cannot write to, even as root.
    folder, cache = tmp_path / "package", tmp_path / "cache"
    folder.mkdir()
    (folder / "kernel.py").write_text(KERNEL)
    if place != "beside":
        (folder / "__pycache__").write_text("")
    if place == "nowhere":
        cache.write_text("")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(cache)}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(folder=str(folder))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    value, path = result.stdout.split()
    assert value == "6"
    if place == "nowhere":
        assert path == "None"
    else:
        home = {"beside": folder, "user": tmp_path}[place]
        assert path.startswith(str(home))
        assert list(Path(path).glob("kernel.triple-*.nbi"))
    shutil.rmtree(tmp_path)
