"""The example scripts run end to end, on data small enough for a test."""

import gzip
import importlib
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
from scipy.integrate import cumulative_simpson
from scipy.special import dawsn

import vdcore
from vdcore import Chain, datasets, links
from vdcore.backends import sparse_backend

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


def write_images(folder):
    """Files in MNIST's form: ten blurred random patterns, 400 + 200 examples."""
    folder.mkdir()
    rng = numpy.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 28, 28))
    for half, count in (("train", 400), ("t10k", 200)):
        labels = numpy.arange(count) % 10
        noise = rng.integers(0, 55, (count, 28, 28))
        images = (patterns[labels] + noise).astype("uint8")
        write_idx(folder / f"{half}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{half}-labels-idx1-ubyte.gz", labels.astype("uint8"))


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_images(root / "mnist")
    return root


def train_mnist(out, mnist_root, *arguments):
    return run(
        "mnist/train_mnist.py",
        *("-o", out, "-b", 50, *arguments),
        VDCORE_DATASET_ROOT=str(mnist_root),
    )


class TrainedLayer(NamedTuple):
    """A layer as the two model files of a run have it."""

    name: str
    W: numpy.ndarray
    log_sigma2: numpy.ndarray
    b: numpy.ndarray
    keep: numpy.ndarray

    @property
    def bits(self):
        """Louizos et al. 2017: sign, largest weight's exponent, mean significand."""
        largest = float(abs(self.W[self.keep]).max())
        exponent = 1
        if largest > 1:
            exponent = math.ceil(math.log2(math.log2(largest) + 1) + 1)
        variance = numpy.exp(self.log_sigma2[self.keep].astype(float))
        significand = [2 * variance < 2.0**-t for t in range(1, 24)]
        return 1 + exponent + math.ceil(numpy.sum(significand, axis=0).mean())


def trained_layers(folder):
    layers = []
    with numpy.load(folder / "model.npz") as file:
        for stored in sparse_backend.load(folder / "model_sparse.npz").layers:
            arrays = [file[f"{stored.name}/{key}"] for key in ("W", "log_sigma2", "b")]
            kept = stored.W.toarray() if stored.is_sparse else stored.W
            layers.append(TrainedLayer(f"/{stored.name}", *arrays, kept != 0))
    return layers


def check_report(printed, folder, x, t):
    """The final report says what the model files, counted and run here, say."""
    layers = trained_layers(folder)
    assert (folder / "summary.txt").read_text() in printed
    lines = printed.splitlines()
    lines = lines[lines.index("") + 1 :]  # an empty line ends the epoch table

    all_weights, pruned = (100 * error_of(layers, x, t, m) for m in (False, True))
    assert lines[0] == (
        f"test error: {all_weights:.2f} % with all weights, {pruned:.2f} % pruned"
    )
    assert lines[1] == ""
    check_layer_rows(lines[2:6], layers)
    check_size_measures(lines[6:12], layers)
    assert lines[12] == (
        "bits: width of a weight, given its posterior variance; "
        "W/Wnz: weights over weights kept"
    )
    whole, _, left = lines[13].partition(", left ")
    inputs = [layer.keep.shape[1] for layer in layers]
    assert whole == "architecture " + "-".join(map(str, inputs))
    left = [int(n) for n in left.split("-")]
    assert all(n <= size for n, size in zip(left, inputs, strict=True))
    lines = [line for line in lines[14:] if not line.startswith("the machine was busy")]
    assert lines[0:2] == [
        "",
        "time a call, plain dense NumPy network against the sparse one:",
    ]
    check_latencies(lines[2:6])
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert lines[6:8] == [
        "",
        f"files: model.npz {sizes['model.npz']:,} bytes, "
        f"model_sparse.npz {sizes['model_sparse.npz']:,} bytes",
    ]


def error_of(layers, x, t, masked):
    """Share of wrong answers of a network with rectifiers, in double precision."""
    y = x.astype(float)
    for k, layer in enumerate(layers):
        W = layer.W * layer.keep if masked else layer.W
        y = (numpy.maximum(y, 0) if k else y) @ W.T.astype(float) + layer.b
    return (y.argmax(axis=1) != t).mean()


def check_layer_rows(lines, layers):
    head, *rows = [line.split() for line in lines]
    assert head == "layer weights kept sparsity % inputs outputs bits".split()
    assert len(rows) == len(layers)
    for row, layer in zip(rows, layers, strict=True):
        keep = layer.keep
        outputs, inputs = keep.shape
        assert 0 < keep.sum() < keep.size
        assert row == [
            layer.name,
            *(str(keep.sum()), "/", str(keep.size)),
            f"{100 * (1 - keep.mean()):.2f}",
            *(str(keep.any(axis=0).sum()), "/", str(inputs)),
            *(str(keep.any(axis=1).sum()), "/", str(outputs)),
            str(layer.bits),
        ]


def check_size_measures(lines, layers):
    weights = sum(layer.W.size for layer in layers)
    biases = sum(layer.b.size for layer in layers)
    kept = [int(layer.keep.sum()) for layer in layers]
    inputs = sum(layer.keep.shape[1] for layer in layers)
    used = sum(int(layer.keep.any(axis=0).sum()) for layer in layers)
    # Rows of at most 65536 columns: 4-byte values, 2-byte indices, 4-byte row starts.
    dense_bytes = 4 * (weights + biases)
    sparse_bytes = 4 * biases + sum(
        min(6 * n + 4 * (layer.b.size + 1), 4 * layer.W.size)
        for n, layer in zip(kept, layers, strict=True)
    )
    kept_bits = sum(n * layer.bits for n, layer in zip(kept, layers, strict=True))
    n = sum(kept)
    assert [" ".join(line.split()) for line in lines] == [
        "size at log alpha threshold 3:",
        f"weights {weights / n:.1f}x {n:,} of {weights:,}",
        f"with biases {(weights + biases) / (n + biases):.1f}x",
        f"units {inputs / used:.1f}x {used:,} of {inputs:,}",
        f"bytes, indices included {dense_bytes / sparse_bytes:.1f}x "
        f"{sparse_bytes:,} of {dense_bytes:,}",
        f"bits by variance {32 * weights / kept_bits:.1f}x",
    ]


def check_latencies(lines):
    head, *rows = [line.split() for line in lines]
    assert head == "batch dense sparse dense / sparse".split()
    for row, batch in zip(rows, ("1", "16", "128"), strict=True):
        assert (row[0], row[2], row[4], row[5][-1]) == (batch, "us", "us", "x")
        dense, sparse, ratio = float(row[1]), float(row[3]), float(row[5][:-1])
        rounding = 0.05 * (1 + 1 / sparse + ratio / sparse)
        assert ratio == pytest.approx(dense / sparse, abs=1.1 * rounding)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Three epochs on the digits: what was printed, and the folder written."""
    folder = tmp_path_factory.mktemp("digits")
    return run("digits/train_digits.py", "-e", 3, "-o", folder), folder


def test_digits_prints_the_epoch_table(digits):
    printed, folder = digits
    lines = printed.splitlines()
    assert lines[0] == "digits: 1437 training, 360 test images of 8x8 pixels"
    assert lines[1].startswith("kernels: ")
    if lines[1].startswith("kernels: numba"):
        assert lines.pop(2) == "the first run compiles the kernels: some seconds"
    columns = (
        "epoch main/loss main/kl_coef validation/main/accuracy main/sparsity "
        "main/W/Wnz elapsed_time"
    ).split()
    assert lines[2].split() == columns
    log = json.loads((folder / "log").read_text())
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    for line, entry in zip(lines[3:6], log, strict=True):
        assert line.split() == [f"{entry[column]:g}" for column in columns]


def test_digits_prints_the_report(digits):
    printed, folder = digits
    _, test = datasets.get_digits()
    check_report(printed, folder, *test.arrays)
    assert error_of(trained_layers(folder), *test.arrays, masked=True) < 0.3


def test_digits_writes_pictures(digits):
    from matplotlib import image

    printed, folder = digits
    names = ("loss.png", "log_alpha.png", "masks.png")
    assert printed.splitlines()[-1] == f"pictures: {', '.join(names)} in {folder}"
    for name in names:
        pixels = image.imread(folder / name)
        assert pixels.shape[0] > 200
        assert pixels[..., :3].std() > 0.02, f"{name} is blank"


def test_mnist_resumes_bit_for_bit(tmp_path, mnist_root):
    once, twice = tmp_path / "once", tmp_path / "twice"
    train_mnist(once, mnist_root, "-e", 4, "-f", 2, "--mask-from", 1)
    (snapshot,) = [p for p in once.iterdir() if p.name.endswith("iter_16")]
    train_mnist(twice, mnist_root, "-e", 4, "--mask-from", 1, "-r", snapshot)
    with numpy.load(once / "model.npz") as a, numpy.load(twice / "model.npz") as b:
        assert set(a) == set(b)
        for name in a:
            numpy.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_mnist_on_two_processes(mpiexec, tmp_path, mnist_root):
    script = EXAMPLES / "mnist/train_mnist.py"
    options = ("-o", tmp_path, "-b", 25, "-e", 2, "--communicator", "mpi")
    folder = str(mnist_root)
    result = mpiexec(2, script, *options, VDCORE_DATASET_ROOT=folder)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["epoch", "1", "2"]
    assert result.stdout.count("test error") == 1
    log = json.loads((tmp_path / "log").read_text())
    assert [row["iteration"] for row in log] == [8, 16]


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
        (("--model", "lenet5"), "LeNet5", "LeNet5VD"),
        (("--model", "conv", "--relu-after-convolutions"), "LeNet5", "LeNet5VD"),
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

    small = type(mnist_script.MODELS["fc"])(Small, SmallVD, ndim=1)
    monkeypatch.setitem(mnist_script.MODELS, "small", small)
    args = parsed(mnist_script, monkeypatch, *arguments)
    assert type(mnist_script.build_model(args, 100)).__name__ == variational
    args = parsed(mnist_script, monkeypatch, "--dense", *arguments)
    assert type(mnist_script.build_model(args, 100)).__name__ == dense


def test_mnist_unknown_model_is_refused(mnist_script, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(mnist_script, monkeypatch, "--model", "vgg")
    assert "invalid choice: 'vgg'" in capsys.readouterr().err


@pytest.mark.parametrize(("dataset", "seed"), [("fashion-mnist", 1), ("kmnist", 2)])
def test_mnist_options_and_report(mnist_script, monkeypatch, tmp_path, dataset, seed):
    """At a step size of 0, where the weights and their KL can be told beforehand."""
    write_images(tmp_path / dataset)  # and no other data set
    out = tmp_path / "out"
    options = {
        "gpu": -1, "seed": seed, "dataset": dataset, "kl": "exact", "model": "fc",
    }  # fmt: skip
    arguments = ["-g", "-1", "--lr", "0", "--mask-from", "-1"]
    for name in ("seed", "dataset", "kl", "model"):
        arguments += [f"--{name}", str(options[name])]
    printed = train_mnist(out, tmp_path, "-e", 1, *arguments)

    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    args = parsed(mnist_script, monkeypatch, *arguments)
    _, test = mnist_script.load_data(args)
    check_report(printed, out, *test.arrays)
    settings = json.loads((out / "summary.json").read_text())["settings"]
    assert settings.items() >= options.items()

    layers = trained_layers(out)
    vdcore.seed(seed)
    first = mnist_script.build_model(args, 400)
    for layer, link in zip(layers, first.children(), strict=True):
        numpy.testing.assert_array_equal(layer.W, link.W.array)

    (entry,) = json.loads((out / "log").read_text())
    la = numpy.concatenate(
        [x.log_sigma2 - numpy.log(x.W.astype(float) ** 2 + 1e-8) for x in layers],
        axis=None,
    ).clip(-8, 8)
    exact, approximate = (f(la).sum() / 400 for f in (exact_divergence, equation_14))
    assert entry["main/kl"] == pytest.approx(exact, rel=1e-5)
    assert abs(approximate / exact - 1) > 1e-3  # --kl exact makes a difference
    values = dict(zip(*map(str.split, printed.splitlines()[:2]), strict=True))
    assert values["main/kl"] == f"{entry['main/kl']:g}"
    assert values["main/W/Wnz"] == f"{entry['main/W/Wnz']:g}"


def exact_divergence(log_alpha):
    """By its slope, -sqrt(h) D(sqrt(h)) with h = 1 / (2 alpha), integrated from 8."""
    grid = numpy.linspace(-8, 8, 20_001)
    root = numpy.sqrt(0.5 * numpy.exp(-grid))
    rest = cumulative_simpson(-root * dawsn(root), x=grid, initial=0)
    h = root[-1] ** 2
    return numpy.interp(log_alpha, grid, rest - rest[-1] + h - h**2 / 3)


def equation_14(log_alpha):
    """Molchanov et al. 2017, which give the negative of it."""
    s = 1 / (1 + numpy.exp(-(1.87320 + 1.48695 * log_alpha)))
    return 0.5 * numpy.log1p(numpy.exp(-log_alpha)) + 0.63576 * (1 - s)


def test_mnist_without_data_says_what_to_do(tmp_path):
    with pytest.raises(AssertionError, match=r"train-images-idx3-ubyte"):
        train_mnist(tmp_path, tmp_path)


def test_frontier_names_its_points_beside_the_panel(monkeypatch, capsys, tmp_path):
    """Published points and runs are told apart where no error bar can hide a name."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def record(self, *arguments, **options):
        figures.append(self)
        save(self, *arguments, **options)

    for seed, (error, ratio) in enumerate(((0.017, 70), (0.019, 80))):
        folder = tmp_path / f"run-seed{seed}"
        folder.mkdir()
        keys = {"parameter_ratio": 40, "sparse_bytes": 20000, "bits_ratio": 300}
        summary = keys | {"pruned_error": error, "weight_ratio": ratio}
        (folder / "summary.json").write_text(json.dumps(summary))
    monkeypatch.setattr(Figure, "savefig", record)
    monkeypatch.syspath_prepend(EXAMPLES / "mnist")
    script = importlib.import_module("plot_frontier")
    picture = tmp_path / "frontier.png"
    command = ["plot_frontier.py", str(picture), f"ours={tmp_path}/run-seed*"]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    row = "| ours | 2 | 1.80 +- 0.14 | 75.0 +- 7.1 | 40.0 | 20,000 | 300 |"
    assert capsys.readouterr().out.splitlines()[-1] == row
    (figure,) = figures
    (legend,), (panel,) = figure.legends, figure.axes
    assert not panel.texts
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "published, Sparse VD"
    assert names[-1] == "vdcore, ours"
    assert len(names) == 5
    assert legend.get_window_extent().y1 <= panel.get_tightbbox().y0
    assert picture.read_bytes()[:4] == b"\x89PNG"
