"""The Penn Treebank example, run in this process on a small text."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_array_equal

import vdcore
from vdcore import datasets, initializers, serializers
from vdcore.arrays import to_numpy
from vdcore.backends import sparse_backend
from vdcore.iterators import ParallelSequentialIterator
from vdcore.serializers import FileFormatError
from vdcore.training import BPTTUpdater

from ..conftest import make_library

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = ("-b", 4, "-l", 10, "-u", 16)

for library in ("matplotlib", "tqdm"):
    pytest.importorskip(library, reason=f"the examples need {library}")


def write_text(folder):
    """Sentences of five words in which much can be foretold; 11 tokens."""
    folder.mkdir()
    rng = numpy.random.default_rng(0)
    for name, count in (("train", 120), ("valid", 40), ("test", 40)):
        lines = []
        for _ in range(count):
            subject, verb, thing = rng.integers(0, [3, 2, 2])
            subject = ("the cat", "a dog", "N <unk>")[subject]
            verb, thing = ("sees", "likes")[verb], ("sun", "moon")[thing]
            lines.append(f" {subject} {verb} the {thing} \n")
        (folder / f"ptb.{name}.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The modules of the example, and a text in VDCORE_DATASET_ROOT."""
    root = tmp_path_factory.mktemp("data")
    write_text(root / "ptb")
    names = ("train_ptb", "sample", "options", "net", "plot_curves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VDCORE_DATASET_ROOT", str(root))
        patch.syspath_prepend(EXAMPLES / "ptb")
        yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def run_main(scripts, name, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        scripts[name].main()


@pytest.fixture
def run(scripts, capsys):
    """A function that runs a script; returns what it printed, errors second."""

    def run(name, *arguments):
        run_main(scripts, name, *arguments)
        return capsys.readouterr()

    return run


@pytest.fixture
def train(run, tmp_path):
    """A function that trains a small network, by default into the folder ``out``."""

    def train(*arguments, out=tmp_path / "out"):
        return run("train_ptb", *SMALL, "-o", out, *arguments)

    return train


def parsed(scripts, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train_ptb.py", *map(str, arguments)])
    return scripts["options"].parse_args("")


def arrays(path):
    with numpy.load(path) as file:
        return dict(file)


def assert_same_model(one, other):
    one, other = arrays(one), arrays(other)
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert_array_equal(array, other[name], err_msg=name)


RECIPES = {
    "soskek": ("embed", "l1/upward", "l1/lateral", "l2/upward", "l2/lateral", "l3"),
    "lobacheva": ("l1/upward", "l1/lateral", "l2"),
}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dense", [False, True], ids=["", "dense"])
def test_a_recipe_learns(train, scripts, tmp_path, recipe, dense):
    options = ["--recipe", recipe, "-e", 6, "--lr", 0.02, "--dropout", 0]
    if dense and recipe == "soskek":
        options[-3] = 20  # of SGD
    options += ["--kl-coef", 0.01] * (not dense) + ["--dense"] * dense
    printed, _ = train(*options)
    module = scripts["train_ptb"]
    columns = module.DENSE_COLUMNS if dense else module.COLUMNS
    lines = printed.splitlines()
    assert lines[0].startswith("Penn Treebank: 720 words to train on, 11 different; ")
    assert lines[1].split() == columns
    assert [len(line.split()) for line in lines[2:8]] == [len(columns)] * 6
    log = json.loads((tmp_path / "out" / "log").read_text())
    assert log[-1]["val_perplexity"] < 0.6 * log[0]["perplexity"]
    assert all(row["main/grad_norm"] > 0 for row in log)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["best_test_perplexity"] < 0.6 * log[0]["perplexity"]
    assert f"test perplexity{'' if dense else ', pruned'}: " in printed
    names = arrays(tmp_path / "out" / "model.npz").keys()
    variational = {name for name in names if name.endswith("log_sigma2")}
    assert variational == {f"{x}/log_sigma2" for x in RECIPES[recipe] if not dense}
    for name in () if dense else RECIPES[recipe]:
        assert f"\n/{name} " in printed  # the table of sizes


@pytest.mark.parametrize(
    "options",
    [
        ("--recipe", "lobacheva"),
        ("--recipe", "soskek", "--noise", "weights", "--mask-from", 1),
        ("--recipe", "soskek", "--pretrain", "--lr", 1),
        ("--recipe", "lobacheva", "--data", "chars", "--limit", 1500),
        ("--recipe", "lobacheva", "--multipliers", "words", "units", "gates"),
    ],
    ids=["lobacheva", "soskek", "dense", "chars", "multipliers"],
)
def test_a_run_resumes_bit_for_bit(train, tmp_path, options):
    """The evaluation between the epochs leaves the states of the training alone."""
    train("-e", 3, "-f", 2, *options)
    snapshots = (tmp_path / "out").glob("snapshot*")
    snapshot = min(snapshots, key=lambda path: int(path.name.rpartition("_")[2]))
    train("-e", 3, *options, "-r", snapshot, out=tmp_path / "other")
    for path in (tmp_path / "other").glob("*model.npz"):
        assert_same_model(tmp_path / "out" / path.name, path)
    logs = [
        json.loads((tmp_path / folder / "log").read_text())
        for folder in ("out", "other")
    ]
    for one, other in zip(*logs, strict=True):
        del one["elapsed_time"], other["elapsed_time"]
        assert one == other


def test_a_seed_makes_a_run_repeatable(train, tmp_path):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        train("--recipe", "lobacheva", "-e", 1, "--seed", seed, out=tmp_path / out)
    assert_same_model(tmp_path / "a" / "model.npz", tmp_path / "b" / "model.npz")
    a, c = (arrays(tmp_path / out / "model.npz") for out in "ac")
    assert (a["l2/W"] != c["l2/W"]).any()


def test_autoload_goes_on(train, tmp_path):
    options = ("--recipe", "lobacheva", "--autoload")
    train("-e", 1, *options)
    train("-e", 2, *options)
    log = json.loads((tmp_path / "out" / "log").read_text())
    assert [row["epoch"] for row in log] == [1, 2]
    _, errors = train("-e", 2, *options)
    assert "2 of 2 epochs are done: nothing is left to train" in errors


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_stages(train, tmp_path, recipe):
    """At a step size of 0 the weights of the plain model stay as they are."""
    train("--recipe", recipe, "-e", 1, "--pretrain", "1", out=tmp_path / "dense")
    dense = tmp_path / "dense" / "model.npz"
    printed, _ = train("--recipe", recipe, "-e", 1, "--lr", 0, "-r", dense)
    assert f"{dense}: weights of a plain model taken" in printed
    taken = arrays(tmp_path / "out" / "model.npz")
    for name, array in arrays(dense).items():
        assert_array_equal(taken[name], array, err_msg=name)


def test_files_that_cannot_be_resumed(train, tmp_path):
    train("--recipe", "lobacheva", "-e", 1)
    model = tmp_path / "out" / "model.npz"
    (snapshot,) = (tmp_path / "out").glob("snapshot*")
    options = ("--recipe", "lobacheva", "-e", 1)
    for file, more, expected in (
        (model, (), "must be a snapshot of a run without --pretrain, or model.npz of "
         "one with it, and is a variational model"),
        (model, ("--pretrain",), "with --pretrain, and is a variational model"),
        (snapshot, ("--pretrain",), "is a variational network's snapshot"),
    ):  # fmt: skip
        with pytest.raises(FileFormatError, match=expected):
            train(*options, *more, "-r", file)
    train("-e", 1, "--pretrain", out=tmp_path / "dense")
    with pytest.raises(FileFormatError, match="does not fit"):
        train(*options, "-r", tmp_path / "dense" / "model.npz")


def test_a_trial(train, tmp_path):
    printed, _ = train("--test", "-e", 1, "--recipe", "lobacheva")
    assert "Penn Treebank: 401 words to train on" in printed
    log = json.loads((tmp_path / "out" / "log").read_text())
    assert log[-1]["iteration"] == 11


def test_the_step_size_of_the_original(train, tmp_path):
    """Divided by 1.2 for each epoch after the sixth."""
    train("--pretrain", "-e", 9, "-l", 40)
    log = json.loads((tmp_path / "out" / "log").read_text())
    rates = [1.0] * 6 + [1 / 1.2, 1 / 1.2**2, 1 / 1.2**3]
    assert [row["lr"] for row in log] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), (650, 20, 35, 39, 1e-5, -10, 1e-5, "activations")),
        (("--pretrain",), (650, 20, 35, 39, 1.0, -10, 1e-5, "activations")),
        (("--recipe", "lobacheva"), (256, 32, 35, 150, 2e-3, -6, 0, "weights")),
        (
            ("--recipe", "lobacheva", "--data", "chars"),
            (1000, 64, 100, 250, 2e-3, -6, 0, "weights"),
        ),
        (("--data", "chars"), (650, 20, 35, 39, 1e-5, -10, 1e-5, "activations")),
        (
            ("--recipe", "lobacheva", "-u", 5, "-b", 6, "-e", 7, "--warm-up", 1),
            (5, 6, 35, 7, 2e-3, -6, 1, "weights"),
        ),
    ],
)
def test_a_recipe_gives_the_defaults(scripts, monkeypatch, arguments, expected):
    args = parsed(scripts, monkeypatch, *arguments)
    names = "units batchsize bproplen epoch lr log_sigma2 warm_up noise".split()
    assert tuple(getattr(args, name) for name in names) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-b", 0), "argument -b/--batchsize: must be at least 1, got 0"),
        (("--dropout", 1), "argument --dropout: must lie in [0, 1), got 1"),
        (("--lr", "nan"), "argument --lr: must be a finite number, positive or 0"),
        (("--pretrain", "2"), "must be 0 or 1, or left out for 1, got 2"),
        (("--graph",), "--graph goes with --gpu"),
        (("--multipliers", "word"), "argument --multipliers: invalid choice: 'word'"),
        (("--multipliers", "units", "units"), "--multipliers: name each group once"),
    ],
)
def test_a_bad_option_is_named(scripts, monkeypatch, capsys, arguments, expected):
    with pytest.raises(SystemExit):
        parsed(scripts, monkeypatch, *arguments)
    assert expected in capsys.readouterr().err


def test_help(scripts, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parsed(scripts, monkeypatch, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "epochs to train; default by recipe: 39, soskek; 150, lobacheva" in text


@pytest.mark.parametrize(
    ("recipe", "units", "weights"),
    [("lobacheva", 256, 13_062_144), ("soskek", 650, 19_760_000)],
)
def test_weights_of_the_published_networks(
    scripts, monkeypatch, recipe, units, weights
):
    """13.06 M by Lobacheva et al.; of the other two embeddings and two LSTMs."""
    for name in ("Orthogonal", "Uniform", "LeCunNormal"):  # which take their time
        monkeypatch.setattr(initializers, name, Zeros)
    model = scripts["net"].NETWORKS[recipe].plain(10_000, units)
    sizes = [p.array.size for path, p in model.namedparams() if path[-2:] == "/W"]
    assert sum(sizes) == weights


class Zeros(initializers.Initializer):
    def __init__(self, scale=0, dtype=numpy.float32):
        super().__init__(dtype)

    def __call__(self, shape):
        return numpy.zeros(shape, self.dtype)


def test_first_weights(scripts):
    plain = {name: each.plain(40, 6) for name, each in scripts["net"].NETWORKS.items()}
    first = {path: p.array for path, p in plain["lobacheva"].namedparams()}
    assert_array_equal(first["/l1/b"], numpy.repeat([0, 1, 0, 0], 6))
    for gate in range(4):
        part = slice(6 * gate, 6 * gate + 6)
        for W in (first["/l1/upward/W"][:, part], first["/l1/lateral/W"][part]):
            numpy.testing.assert_allclose(W.T @ W, numpy.eye(6), atol=1e-6)
    for path, p in plain["soskek"].namedparams():
        assert 0.05 < abs(p.array).max() <= numpy.float32(0.1), path


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["", "dense", "multipliers"])
def test_a_graph_changes_no_number(scripts, monkeypatch, recipe, kind):
    cupy = make_library("cupy").xp
    dense = kind == "dense"
    more = ["--dense"] * dense
    if kind == "multipliers":
        more = ["--multipliers", "words", "units", "gates"]
    options = ("--recipe", recipe, "-u", 8, *more)
    args = parsed(scripts, monkeypatch, *options)
    words = numpy.random.default_rng(0).integers(0, 12, 300).astype("i4")
    parameters = []
    for graph in (False, True):
        vdcore.seed(0)
        model = scripts["train_ptb"].build_model(args, 12, 300)
        loss = scripts["train_ptb"].plain_loss(model) if dense else model.calc_loss
        model.to_device(0)
        updater = BPTTUpdater(
            ParallelSequentialIterator(cupy.asarray(words), 3, length=5),
            scripts["train_ptb"].build_optimizer(args, model),
            device=0,
            loss_func=loss,
            graph=graph,
        )
        for _ in range(6):
            updater.update()
        parameters.append([to_numpy(p.array) for p in model.params()])
    for eager, repeated in zip(*parameters, strict=True):
        assert_array_equal(eager, repeated)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_test_perplexity_is_that_of_the_file(train, tmp_path, scripts, recipe):
    """The perplexity printed is that of the file's model, counted here."""
    options = ("--recipe", recipe, "-e", 2, "--lr", 0.02)
    train(*options)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    _, _, test = datasets.get_ptb_words()
    model, _ = scripts["sample"].load(tmp_path / "out" / "model.npz")
    iterator = ParallelSequentialIterator(test, 4, repeat=False, length=1000)
    (window,) = iterator
    scores = model.predict(window[0]).reshape(-1, model.out_size).astype(float)
    log_p = scores - numpy.log(numpy.exp(scores).sum(axis=1, keepdims=True))
    mean = log_p[numpy.arange(len(log_p)), window[1].ravel()].mean()
    assert summary["test_perplexity"] == pytest.approx(numpy.exp(-mean), rel=1e-5)


@pytest.mark.parametrize("groups", [(), ("words", "units", "gates")], ids=len)
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_sparse_model_gives_the_scores_of_the_trained_one(
    train, tmp_path, scripts, monkeypatch, recipe, groups
):
    options = ["-e", 2, "--recipe", recipe, "--multipliers", *groups]
    printed, _ = train(*options)
    out = tmp_path / "out"
    sparse = sparse_backend.load(out / "model_sparse.npz")
    args = parsed(scripts, monkeypatch, *SMALL, *options)
    model = scripts["train_ptb"].build_model(args, 11, 720)
    serializers.load_npz(out / "model.npz", model)
    ids = numpy.arange(30, dtype=numpy.int32).reshape(10, 3) % 9
    with vdcore.using_config("train", False):
        expected = model(ids).reshape(10, 3, -1)
    scale = abs(expected).max()
    numpy.testing.assert_allclose(sparse.predict(ids), expected, atol=2e-6 * scale)
    written, _ = scripts["sample"].load(out / "model.npz")
    sparse.reset_state(3)
    assert_array_equal(written.predict(ids), sparse.predict(ids))
    multipliers = [x for _, x in model.variational_links() if not x.is_weighted]
    assert len(multipliers) == (0, 3, 5)[len(groups) // 3 * (1 + (recipe == "soskek"))]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["weight_ratio_left"] == sparse.weight_ratio
    for group in sparse.groups:
        assert f"\n{group}\n" in printed
        assert summary["groups"][f"{group.name}/{group.kind}"] == group.kept


@pytest.fixture(scope="module")
def trained(scripts, tmp_path_factory):
    """A model that has learnt the sentences."""
    out = tmp_path_factory.mktemp("trained")
    options = (*SMALL, "-e", 10, "--lr", 0.02, "--kl-coef", 0.01, "-o", out)
    run_main(scripts, "train_ptb", "--recipe", "lobacheva", *options)
    return out / "model.npz"


def test_sample(run, trained):
    printed, _ = run("sample", trained, "-n", 60, "--prime", "the cat")
    lines = printed.splitlines()
    assert lines[0].startswith("the cat ")
    whole = [line.split() for line in lines[:-1]]
    assert len(whole) > 6
    grammatical = [
        len(line) == 5 and line[2] in ("sees", "likes") and line[3] == "the"
        for line in whole
    ]
    assert sum(grammatical) > 0.7 * len(grammatical)
    again, _ = run("sample", trained, "-n", 60, "--prime", "the cat")
    assert again == printed
    other, _ = run("sample", trained, "-n", 60, "--prime", "the cat", "--seed", 1)
    assert other != printed


def test_sample_of_temperature_0_needs_no_seed(run, trained):
    texts = {
        run("sample", trained, "-n", 20, "--temperature", 0, "--seed", seed).out
        for seed in range(3)
    }
    assert len(texts) == 1


def test_sample_of_characters(run, train, tmp_path):
    train("--recipe", "lobacheva", "-e", 1, "--data", "chars", "--limit", 1500)
    model = tmp_path / "out" / "model.npz"
    printed, _ = run("sample", model, "-n", 30, "--prime", "a d")
    assert printed.startswith("a d")
    assert len(printed) == 3 + 30 + 1
    with pytest.raises(ValueError, match="--prime: 'X' is no character of the"):
        run("sample", model, "--prime", "X")


def test_a_word_outside_the_vocabulary(run, trained):
    with pytest.raises(
        ValueError, match=r"--prime: 'whale' is no word of the 11 .*<unk>"
    ):
        run("sample", trained, "--prime", "the whale")


def test_sample_without_the_vocabulary(run, trained, tmp_path):
    shutil.copy(trained, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vocabulary\.json beside a model"):
        run("sample", tmp_path / "model.npz")


def test_sample_from_another_file(run, train, trained, tmp_path):
    train("-e", 1)
    shutil.copy(trained, tmp_path / "out")
    with pytest.raises(FileFormatError, match="is not of the run that wrote"):
        run("sample", tmp_path / "out" / "model.npz")


@pytest.mark.parametrize(
    "arguments", [("-n", 0), ("--temperature", "-1"), ("--temperature", "nan")]
)
def test_bad_options_of_sample(run, trained, capsys, arguments):
    with pytest.raises(SystemExit):
        run("sample", trained, *arguments)
    assert "must be" in capsys.readouterr().err


def test_curves_beside_the_published_ones(train, scripts, tmp_path, capsys):
    for kind in ([], ["--dense"]):
        train("-e", 2, "--recipe", "lobacheva", *kind, out=tmp_path / f"run{len(kind)}")
    runs = [f"ours={tmp_path}/run0", f"plain={tmp_path}/run1"]
    run_main(scripts, "plot_curves", tmp_path / "curves.png", *runs)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][0] == "epoch"
    assert rows[0][-2:] == ["ours", "plain"]
    assert [row[0] for row in rows[2:]] == ["1", "2"]
    for k, row in enumerate(rows[2:]):
        ours, plain = (
            json.loads((tmp_path / f"run{n}" / "log").read_text())[k] for n in (0, 1)
        )
        ratio = ours["main/W/Wnz"]
        assert row[-2] == f"{ours['val_perplexity']:.1f} at {ratio:.1f}x"
        assert row[-1] == f"{plain['val_perplexity']:.1f}"
        assert row[1] == ("594.4 at 20.0x", "389.6 at 21.3x")[k]
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="is no folder with a log"):
        run_main(scripts, "plot_curves", tmp_path / "other.png", f"x={tmp_path}")
