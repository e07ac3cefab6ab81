"""The example scripts run end to end, on data small enough for a test."""

import gzip
import importlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from vdcore import Chain, links

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

for library in ("matplotlib", "sklearn", "tqdm"):
    pytest.importorskip(library, reason=f"the examples need {library}")


def run(script, *arguments, **environment):
    """Run an example in a process of its own; returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory):
    """Files in MNIST's form: ten blurred random patterns, 400 + 200 examples."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "mnist"
    folder.mkdir()
    rng = numpy.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 28, 28))
    for half, count in (("train", 400), ("t10k", 200)):
        labels = numpy.arange(count) % 10
        noise = rng.integers(0, 55, (count, 28, 28))
        images = (patterns[labels] + noise).astype("uint8")
        write_idx(folder / f"{half}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{half}-labels-idx1-ubyte.gz", labels.astype("uint8"))
    return root


def train_mnist(out, mnist_root, *arguments):
    return run(
        "mnist/train_mnist.py",
        *("-o", out, "-b", 50, *arguments),
        VDCORE_DATASET_ROOT=str(mnist_root),
    )


def test_digits_writes_report_models_and_pictures(tmp_path):
    printed = run("digits/train_digits.py", "-e", 3, "-o", tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert f"{100 * summary['pruned_error']:.2f} % pruned" in printed
    assert "kernels: " in printed
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {"loss.png", "log_alpha.png", "masks.png"}
    assert pictures | {"model.npz", "model_sparse.npz", "log"} <= names


def test_mnist_resumes_bit_for_bit(tmp_path, mnist_root):
    once, twice = tmp_path / "once", tmp_path / "twice"
    train_mnist(once, mnist_root, "-e", 4, "-f", 2, "--mask-from", 1)
    (snapshot,) = [p for p in once.iterdir() if p.name.endswith("iter_16")]
    train_mnist(twice, mnist_root, "-e", 4, "--mask-from", 1, "-r", snapshot)
    with numpy.load(once / "model.npz") as a, numpy.load(twice / "model.npz") as b:
        assert set(a) == set(b)
        for name in a:
            numpy.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_mnist_two_stage_recipe(tmp_path, mnist_root):
    dense = tmp_path / "dense"
    printed = train_mnist(dense, mnist_root, "-e", 2, "--dense")
    assert "test error: " in printed
    out = tmp_path / "vd"
    train_mnist(
        out, mnist_root, "-e", 1, "--lr", 0, "--pretrained", dense / "model.npz"
    )
    with numpy.load(dense / "model.npz") as a, numpy.load(out / "model.npz") as b:
        for name in a:  # nothing is learned at a step size of 0
            numpy.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_mnist_pretrained_refuses_a_file_of_another_model(tmp_path, mnist_root):
    foreign = tmp_path / "foreign.npz"
    numpy.savez(foreign, **{"conv1/W": numpy.zeros((3, 3), "f4")})
    with pytest.raises(AssertionError, match=r"foreign.npz` does not fit .*'conv1/W'"):
        train_mnist(tmp_path / "out", mnist_root, "-e", 1, "--pretrained", foreign)


@pytest.fixture
def mnist_script(monkeypatch):
    """The MNIST example as a module."""
    monkeypatch.syspath_prepend(EXAMPLES / "mnist")
    yield importlib.import_module("train_mnist")
    for name in ("train_mnist", "net"):
        del sys.modules[name]


def parsed(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train_mnist.py", *arguments])
    return module.parse_args()


@pytest.mark.parametrize(
    ("arguments", "dense", "variational"),
    [
        ((), "LeNet300100", "LeNet300100VD"),
        (("--model", "fc"), "LeNet300100", "LeNet300100VD"),
        (("--model", "lenet300100"), "LeNet300100", "LeNet300100VD"),
        (("--model", "small"), "Small", "SmallVD"),
    ],
)
def test_mnist_model_is_the_one_asked_for(
    mnist_script, monkeypatch, arguments, dense, variational
):
    class Small(Chain):
        def __init__(self, initialW=None):
            super().__init__()

    class SmallVD(links.VariationalDropoutChain, Small):
        def __init__(self, *, variational, **kwargs):
            super().__init__(**kwargs)

    monkeypatch.setitem(mnist_script.MODELS, "small", (Small, SmallVD))
    args = parsed(mnist_script, monkeypatch, *arguments)
    assert type(mnist_script.build_model(args, 100)).__name__ == variational
    args = parsed(mnist_script, monkeypatch, "--dense", *arguments)
    assert type(mnist_script.build_model(args, 100)).__name__ == dense


def test_mnist_unknown_model_is_refused(mnist_script, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(mnist_script, monkeypatch, "--model", "vgg")
    assert "invalid choice: 'vgg'" in capsys.readouterr().err


def test_mnist_without_data_says_what_to_do(tmp_path):
    with pytest.raises(AssertionError, match=r"train-images-idx3-ubyte"):
        train_mnist(tmp_path, tmp_path)
