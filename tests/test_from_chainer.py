"""docs/from_chainer.md: its script runs, and the names of its table are there."""

from __future__ import annotations

import importlib
import inspect
import re
from operator import attrgetter
from pathlib import Path

import numpy
import pytest

import vdcore
from vdcore import links as L

PAGE = (Path(__file__).parents[1] / "docs/from_chainer.md").read_text()
(SCRIPT,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line[:3] == "| `"]
PREFIXES = {
    "F": "vdcore.functions",
    "L": "vdcore.links",
    "extensions": "vdcore.training.extensions",
    "kernels": "vdcore.kernels",
    "sparse_backend": "vdcore.backends.sparse_backend",
    "variational": "vdcore.variational",
    "vdcore": "vdcore",
}


def in_code(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = {"__name__": "from_chainer"}
    exec(compile(SCRIPT, "docs/from_chainer.md", "exec"), session)
    printed = capsys.readouterr().out
    assert printed.split("\n")[0].split() == [
        "epoch", "validation/main/accuracy", "main/W/Wnz",
    ]  # fmt: skip
    x, t = session["test"].arrays
    with vdcore.using_config("train", False):
        dense = session["model"](x)
    numpy.testing.assert_allclose(session["scores"], dense, atol=1e-5)
    # One input in twenty decides: nearly all is right, and most weights are noise.
    assert (dense.argmax(axis=1) == t).mean() > 0.9
    assert L.calculate_stats(session["model"])["sparsity"] > 0.5


def test_names_of_the_table_are_there():
    names = [name for row in ROWS for cell in row[1:] for name in in_code(cell)]
    dotted = [name.split(".", 1) for name in names if name.split(".")[0] in PREFIXES]
    assert {prefix for prefix, _ in dotted} == set(PREFIXES)
    for prefix, path in dotted:
        attrgetter(path)(importlib.import_module(PREFIXES[prefix]))


def test_names_that_stay_are_there():
    model = L.VariationalDropoutChain()
    layer = L.VariationalDropoutLinear(1, 1)
    names = [
        re.sub(r".*\.|\(.*", "", name)
        for row in ROWS
        if row[1].strip() == "same"
        for name in in_code(row[0])
    ]
    assert len(names) == 6
    for name in names:
        assert hasattr(model, name) or hasattr(layer, name), name


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (
            L.VariationalDropoutLinear,
            "in_size out_size nobias initialW initial_bias p_threshold "
            "loga_threshold initial_log_sigma2",
        ),
        (
            L.VariationalDropoutConvolution2D,
            "in_channels out_channels ksize stride pad nobias initialW initial_bias "
            "deterministic p_threshold loga_threshold initial_log_sigma2",
        ),
        (
            L.Convolution2D,
            "in_channels out_channels ksize stride pad nobias initialW initial_bias",
        ),
        *(
            (
                cls,
                "in_size out_size lateral_init upward_init bias_init forget_bias_init",
            )
            for cls in (L.LSTM, L.VariationalDropoutLSTM)
        ),
        (L.LSTM.set_state, "self c h"),
        (L.StatefulGRU.set_state, "self h"),
        (L.TanhRNN.set_state, "self h"),
        (L.EmbedID, "in_size out_size initialW"),
        (
            L.VariationalDropoutChain.calc_loss,
            "self x t add_kl split_loss calc_stats",
        ),
        (L.calculate_stats, "chain threshold"),
        (L.get_vd_links, "link"),
        (L.calculate_p, "link"),
    ],
)
def test_arguments_are_the_originals(function, arguments):
    names = arguments.split()
    assert list(inspect.signature(function).parameters)[: len(names)] == names
