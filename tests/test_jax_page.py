"""docs/jax.md: its code runs, as one user's session, and does what the page says."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy
import pytest

from vdcore.backends import sparse_backend

PAGE = Path(__file__).parents[1] / "docs/jax.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_session(tmp_path, monkeypatch, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's, not ours
        jax = pytest.importorskip("jax", reason="jax is not installed")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "jax_page"}
    with jax.enable_x64(False):
        for block in BLOCKS:
            exec(compile(block, str(PAGE), "exec"), session)
        y = numpy.asarray(session["model"](session["params"], session["x"]))
    size = session["vd"].size(session["params"])
    assert str(size) in capsys.readouterr().out
    used = numpy.abs(session["pruned"]["l1"]["W"]).sum(axis=1)
    assert used[:2].min() > 4 * used[2:].max()  # two of the inputs matter
    assert size.weight_ratio > 10
    t = numpy.asarray(session["t"])
    assert ((y - t) ** 2).mean() < 0.02 * t.var()
    numpy.testing.assert_allclose(session["y"], y, atol=1e-4)
    loaded = sparse_backend.load(tmp_path / "model_sparse.npz")
    x = numpy.asarray(session["x"])
    numpy.testing.assert_allclose(loaded.predict(x), y, atol=1e-4)
    assert sum(layer.kept for layer in loaded.layers) == size.weights_kept
    numpy.testing.assert_allclose(session["chain"](x), y, atol=1e-4)
