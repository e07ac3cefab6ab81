"""The code blocks of the README run, in order, as one user's session."""

import importlib.util
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
SESSION = [block for block in BLOCKS if "torch" not in block and "jax" not in block]


def test_train_and_run_sparse(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "readme"}
    for block in SESSION:
        exec(compile(block, str(README), "exec"), session)
    assert len(SESSION) == 3
    output = capsys.readouterr().out
    assert "main/W/Wnz" in output
    assert float(re.search(r"test error: (\S+)", output)[1]) < 0.1
    size = session["model"].size()
    assert 10 < size.weight_ratio < 15  # "one weight in twelve"
    assert str(size) in output


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
