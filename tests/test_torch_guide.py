"""docs/torch.md: its blocks run, in order, as one user's session."""

from __future__ import annotations

import re
from pathlib import Path

import numpy
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

PAGE = (Path(__file__).parents[1] / "docs/torch.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_session(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "torch_guide"}
    for block in BLOCKS:
        exec(compile(block, "docs/torch.md", "exec"), session)
    assert len(BLOCKS) == 6
    printed = capsys.readouterr().out
    assert re.search(r"dropped: \d\.\d+%", printed)
    assert "0: LinearVD\n3: LinearVD\n" in printed
    accuracy = (session["before"].argmax(1) == session["t"]).float().mean()
    assert accuracy > 0.95
    ratio = float(re.search(r"weights +(\d+\.\d)x", printed)[1])
    assert ratio > 5
    expected = session["before"].detach()
    numpy.testing.assert_allclose(session["y"], expected, rtol=1e-4, atol=1e-4)
