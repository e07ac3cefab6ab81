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


def run_block(library):
    """The session of the block that imports a library."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    (block,) = [block for block in BLOCKS if f"import {library}\n" in block]
    session = {"__name__": "readme"}
    exec(compile(block, str(README), "exec"), session)
    return session


def test_torch(capsys):
    session = run_block("torch")
    gradients = [p.grad for p in session["model"].parameters()]
    assert len(gradients) == 6  # weights, log variances and biases of two layers
    assert all(bool((gradient != 0).any()) for gradient in gradients)
    size = session["vd"].sparsity_report(session["model"])
    assert size.weights == 20 * 30 + 30 * 2
    assert str(size) in capsys.readouterr().out


def test_jax():
    W = run_block("jax")["gradient"]["W"]
    assert W.theta.shape == W.log_sigma2.shape == (20, 2)
    # The KL falls as the variance grows; the error grows with both.
    assert bool((W.theta > 0).all())
    assert bool((W.log_sigma2 != 0).all())
