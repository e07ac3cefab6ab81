"""docs/language_models.md: its script runs, on a small text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy
import pytest

PAGE = (Path(__file__).parents[1] / "docs/language_models.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SMALLER = {
    ", 256,": ", 16,",
    "2e-3": "2e-2",
    ", 32,": ", 4,",
    '(10, "epoch")': '(4, "epoch")',
}


@pytest.fixture
def small_text(tmp_path, monkeypatch):
    rng = numpy.random.default_rng(0)
    (tmp_path / "ptb").mkdir()
    for name in ("train", "valid", "test"):
        lines = (
            f" the cat {rng.choice(['sees', 'likes'])} <unk> N \n" for _ in range(400)
        )
        (tmp_path / "ptb" / f"ptb.{name}.txt").write_text("".join(lines))
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_script(small_text, capsys):
    session = {"__name__": "language_models"}
    train, run = BLOCKS
    for large, small in SMALLER.items():
        assert large in train
        train = train.replace(large, small)
    exec(compile(train, "docs/language_models.md", "exec"), session)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["epoch", "perplexity", "val_perplexity"]
    first, last = (float(line.split()[1]) for line in (lines[1], lines[-1]))
    assert last < 0.75 * first
    exec(compile(run, "docs/language_models.md", "exec"), session)
    printed = capsys.readouterr().out
    assert " of 7 words\n" in printed
    assert printed.splitlines()[-5] == "cat"  # which comes after "the", always
    assert Path("language_model_sparse.npz").exists()
