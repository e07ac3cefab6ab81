"""The code blocks of the README run, in order, as one user's session."""

import importlib.util
import re
from pathlib import Path

import pytest

from vdcore.links import calculate_stats

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
SESSION = [block for block in BLOCKS if "torch" not in block and "jax" not in block]


def test_train_and_run_sparse(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "readme"}
    for block in SESSION:
        exec(compile(block, str(README), "exec"), session)
    x, t = session["test"].arrays
    assert len(SESSION) == 3
    assert session["scores"].shape == (len(x), 10)
    assert (session["scores"].argmax(axis=1) == t).mean() > 0.9
    assert calculate_stats(session["model"])["sparsity"] > 0.5
    assert "main/W/Wnz" in capsys.readouterr().out


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_mathematics_in_other_frameworks(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    (block,) = [block for block in BLOCKS if f"import {library}\n" in block]
    session = {"__name__": "readme"}
    exec(compile(block, str(README), "exec"), session)
    gradient = session["theta"].grad if library == "torch" else session["gradient"]
    # The KL grows with the mean: a larger signal at the same noise says more. The
    # torch block adds a likelihood term, whose slope has no such sign.
    assert gradient.shape == (3, 4)
    assert bool((gradient > 0).all() if library == "jax" else (gradient != 0).all())
