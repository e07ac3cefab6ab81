"""Options and messages of the MNIST example, run in this process on few images."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy
import pytest

from tests.conftest import make_library
from vdcore import datasets
from vdcore.backends import sparse_backend
from vdcore.serializers import FileFormatError

EXAMPLES = Path(__file__).parents[2] / "examples"

for library in ("matplotlib", "tqdm"):
    pytest.importorskip(library, reason=f"the examples need {library}")


def few_images(scale, ndim):
    shape = {1: (40, 784), 3: (40, 1, 28, 28)}[ndim]
    x = numpy.random.default_rng(0).random(shape, dtype=numpy.float32) * scale
    data = datasets.TupleDataset(x.astype("f4"), numpy.arange(40) % 10)
    return data, data[:20]


@pytest.fixture
def script(monkeypatch):
    """The MNIST example as a module, with few images."""
    monkeypatch.syspath_prepend(EXAMPLES / "mnist")
    module = importlib.import_module("train_mnist")
    monkeypatch.setitem(module.DATASETS, "mnist", few_images)
    yield module
    for name in ("train_mnist", "net"):
        del sys.modules[name]


@pytest.fixture
def parsed(script, monkeypatch):
    def parse(*arguments):
        monkeypatch.setattr(sys, "argv", ["train_mnist.py", *map(str, arguments)])
        return script.parse_args()

    return parse


@pytest.fixture
def train(script, parsed, capsys):
    """A function that runs the script; returns what it printed, errors second."""

    def run(*arguments):
        parsed("-b", 20, *arguments)
        script.main()
        return capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-e", 0), "argument -e/--epoch: must be at least 1, got 0"),
        (("-b", -5), "argument -b/--batchsize: must be at least 1, got -5"),
        (
            ("-f", 0),
            "argument -f/--frequency: must be at least 1, or -1 for the end, got 0",
        ),
        (
            ("--init-std", "-0.1"),
            "argument --init-std: must be a finite number, positive or 0, got -0.1",
        ),
        (
            ("--lr", "nan"),
            "argument --lr: must be a finite number, positive or 0, got nan",
        ),
    ],
)
def test_a_bad_option_is_named(parsed, capsys, arguments, expected):
    with pytest.raises(SystemExit):
        parsed(*arguments)
    assert capsys.readouterr().err.endswith(f"error: {expected}\n")


def test_help_has_the_defaults(parsed, capsys):
    with pytest.raises(SystemExit):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs to train (default: 200)" in text
    assert "between these epochs (default: (5, 20))" in text
    assert "the other options must be those of the run that wrote it" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ""),
        (
            ("-e", 3),
            "warning: --kl-epochs 5 20 and --mask-from 40 beyond --epoch 3: nothing "
            "will be pruned",
        ),
        (
            ("-e", 10, "--mask-from", -1),
            "warning: --kl-epochs 5 20 beyond --epoch 10: little will be pruned",
        ),
        (
            ("-e", 20),
            "warning: --mask-from 40 beyond --epoch 20: no weight will be masked in "
            "training",
        ),
    ],
)
def test_a_schedule_beyond_the_end_is_warned_of(script, parsed, arguments, expected):
    assert script.too_short(parsed(*arguments)) == expected


def test_dense_has_columns_of_its_own(script, train, tmp_path):
    out, errors = train("-e", 1, "--dense", "-o", tmp_path)
    assert out.splitlines()[0].split() == script.DENSE_COLUMNS
    assert len(out.splitlines()[1].split()) == len(script.DENSE_COLUMNS)
    assert "warning" not in errors


def test_lenet5_is_trained_pruned_and_run_sparse(train, tmp_path):
    out, _ = train(
        *("-e", 2, "--model", "lenet5", "--relu-after-convolutions"),
        *("--kl-epochs", 0, 1, "--mask-from", 1, "-o", tmp_path),
    )
    assert "430,500" in out
    assert (tmp_path / "masks.png").stat().st_size > 1000
    model = sparse_backend.load(tmp_path / "model_sparse.npz")
    assert (model.in_shape, model.out_shape) == ((1, 28, 28), (10,))


def test_rectifiers_after_convolutions_need_some(parsed, capsys):
    with pytest.raises(SystemExit):
        parsed("--relu-after-convolutions")
    assert "goes with --model lenet5" in capsys.readouterr().err


def test_resuming_a_run_that_has_ended(train, tmp_path):
    _, errors = train("-e", 1, "-o", tmp_path)
    assert errors.startswith("warning: --kl-epochs 5 20 and --mask-from 40 beyond")
    (snapshot,) = tmp_path.glob("snapshot*")
    _, errors = train("-e", 1, "-o", tmp_path, "-r", snapshot)
    expected = f"{snapshot}: 1 of 1 epochs are done: nothing is left to train\n"
    assert expected in errors


def test_resuming_from_a_model_file(train, tmp_path):
    train("-e", 1, "-o", tmp_path)
    for name, kind in (
        ("model.npz", "this is a model file, not a snapshot; load it"),
        ("model_sparse.npz", "this is a sparse model file, not a snapshot; read it"),
    ):
        with pytest.raises(FileFormatError, match=kind):
            train("-e", 1, "-o", tmp_path, "-r", tmp_path / name)
    (snapshot,) = tmp_path.glob("snapshot*")
    with pytest.raises(FileFormatError, match="this is a snapshot, not a model file"):
        train("-e", 1, "-o", tmp_path, "--pretrained", snapshot)
    with pytest.raises(FileFormatError, match="this is a sparse model file, not a m"):
        train("-e", 1, "-o", tmp_path, "--pretrained", tmp_path / "model_sparse.npz")


def test_a_gpu_gives_what_the_options_say(train, tmp_path):
    """With and without a graph the same log; then a sparse model on the CPU."""
    make_library("cupy")
    logs = []
    for name, options in (("eager", ()), ("graph", ("--graph",))):
        out = tmp_path / name
        settings = ("-e", 4, "--kl-epochs", 0, 2, "--mask-from", 3, "--lr", 0.01)
        train(*settings, "--gpu", 0, *options, "-o", out)
        log = json.loads((out / "log").read_text())
        logs.append([{k: v for k, v in e.items() if k != "elapsed_time"} for e in log])
        assert sparse_backend.load(out / "model_sparse.npz").in_shape == (784,)
    for eager, repeated in zip(*logs, strict=True):
        assert eager == pytest.approx(repeated, rel=1e-6)
    assert len(logs[0]) == 4


@pytest.mark.parametrize("option", ["--graph", "--profile"])
def test_options_of_gpus_go_with_one(parsed, capsys, option):
    with pytest.raises(SystemExit):
        parsed(option)
    assert "go with --gpu" in capsys.readouterr().err
