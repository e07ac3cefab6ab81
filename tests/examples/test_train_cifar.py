"""The CIFAR example, run in this process on small files in the official form."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
from numpy.testing import assert_array_equal

import vdcore
from vdcore import datasets, inspection, serializers, training
from vdcore import links as L
from vdcore.serializers import FileFormatError

EXAMPLES = Path(__file__).parents[2] / "examples"
MODULES = ("train_cifar", "options", "resuming", "net")
SMALL = ("-b", 20, "--width", 0.0625)
WEIGHTS, BATCH_NORMALIZATIONS = 14_977_728, 14

for library in ("matplotlib", "tqdm"):
    pytest.importorskip(library, reason=f"the examples need {library}")


def batch(seed, size, classes):
    """Images of one colour a class, with noise."""
    rng = numpy.random.default_rng(seed)
    labels = numpy.arange(size) % classes
    colours = numpy.random.default_rng(0).integers(0, 200, (classes, 3))
    noise = rng.integers(0, 56, (size, 3072))
    data = (colours[labels].repeat(1024, axis=1) + noise).astype(numpy.uint8)
    return {"data": data, "labels": labels.tolist(), "fine_labels": labels.tolist()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """What VDCORE_DATASET_ROOT names: 60 and 12 images of each data set."""
    root = tmp_path_factory.mktemp("data")
    ten = root / "cifar10" / "cifar-10-batches-py"
    hundred = root / "cifar100" / "cifar-100-python"
    sizes = {ten / f"data_batch_{i}": 12 for i in range(1, 6)}
    sizes |= {ten / "test_batch": 12, hundred / "train": 60, hundred / "test": 12}
    for seed, (path, size) in enumerate(sizes.items()):
        path.parent.mkdir(parents=True, exist_ok=True)
        classes = 100 if path.parent == hundred else 10
        path.write_bytes(pickle.dumps(batch(seed, size, classes)))
    return root


class Script:
    """The example as a module, which runs with a command line."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.module = importlib.import_module("train_cifar")

    def parse(self, *arguments):
        self.monkeypatch.setattr(sys, "argv", ["x", *map(str, (*SMALL, *arguments))])
        return self.module.parse_args("What it does.")

    def run(self, *arguments):
        self.parse(*arguments)
        self.module.main()


@pytest.fixture(scope="module")
def script(root):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(EXAMPLES / "cifar")
        monkeypatch.setenv("VDCORE_DATASET_ROOT", str(root))
        script = Script(monkeypatch)
        # Pictures, which have tests of their own, are what takes the time here.
        for name in ("plot_log_alpha", "plot_masks"):
            monkeypatch.setattr(f"vdcore.inspection.summary.{name}", lambda *_: None)
        monkeypatch.setattr(training.extensions, "PlotReport", NoPlot)
        yield script
        for name in MODULES:
            del sys.modules[name]


class NoPlot(training.Extension):
    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, trainer):
        pass


class Run(NamedTuple):
    folder: Path
    out: str
    errors: str

    @property
    def log(self):
        return json.loads((self.folder / "log").read_text())

    @property
    def arrays(self):
        return serializers.read_npz(self.folder / "model.npz")

    def snapshot(self, iteration):
        return self.folder / f"snapshot_iter_{iteration}"


@pytest.fixture
def train(script, tmp_path, capsys):
    def run(name, *arguments):
        capsys.readouterr()
        script.run("-o", tmp_path / name, *arguments)
        return Run(tmp_path / name, *capsys.readouterr())

    return run


PRETRAIN = ("--pretrain", "-e", 4, "-f", 2, "--lr", 0.05)


@pytest.fixture(scope="module")
def dense(script, tmp_path_factory):
    """A run of the first stage; not to be written to."""
    folder = tmp_path_factory.mktemp("dense")
    script.run("-o", folder, *PRETRAIN)
    return Run(folder, "", "")


def refused(script, expected, *arguments):
    script.parse(*arguments)
    with pytest.raises(FileFormatError, match=expected):
        script.module.main()


def check_same(one, other):
    assert set(one) == set(other)
    for name in one:
        assert_array_equal(one[name], other[name], err_msg=name)


def test_pretraining_learns(dense):
    assert dense.log[-1]["main/loss"] < dense.log[0]["main/loss"] - 0.1
    names = {path.name for path in dense.folder.iterdir()}
    snapshots = {"snapshot_iter_6", "snapshot_iter_12"}
    assert names == {"log", "model.npz", "standardization.npz"} | snapshots
    assert [entry["lr"] for entry in dense.log] == [0.05] * 4


def test_pretraining_resumes_bit_for_bit(train, dense):
    resumed = train("again", *PRETRAIN, "-r", dense.snapshot(6))
    check_same(dense.arrays, resumed.arrays)
    assert resumed.errors == ""
    header, columns, *rows, error = resumed.out.splitlines()
    assert header == (
        "cifar10: 60 training, 12 test images; VGG16 with 58,908 weights, "
        "MomentumSGD 0.05"
    )
    assert columns.split()[-3:] == ["validation/main/accuracy", "lr", "elapsed_time"]
    assert len(rows) == 4
    accuracy = dense.log[-1]["validation/main/accuracy"]
    assert error == f"test error: {100 * (1 - accuracy):.2f} %"


def test_pretrain_is_a_flag_of_0_or_1(script, capsys):
    for arguments, expected in (
        ((), False),
        (("--pretrain",), True),
        (("--pretrain", "0"), False),
        (("--pretrain", "1"), True),
        (("--pretrain", "-e", 3), True),
    ):
        assert script.parse(*arguments).pretrain is expected
    with pytest.raises(SystemExit):
        script.parse("--pretrain", "no")
    expected = "argument --pretrain: must be 0 or 1, or left out for 1, got no\n"
    assert capsys.readouterr().err.endswith(expected)


@pytest.mark.parametrize("file", ["model.npz", "snapshot_iter_12"])
def test_second_stage_begins_as_the_dense_model(script, dense, file):
    args = script.parse("-r", dense.folder / file)
    source = script.module.read_source(args.resume)
    assert script.module.choose_mode(args, source) == "pretrained"
    model = script.module.build_model(args, "pretrained", 60)
    plain = script.module.build_model(args, "pretrain", None)
    said = script.module.take_model(source, model, plain)
    assert said == (
        f"{args.resume}: weights, batch normalisation and its statistics of a plain "
        "model taken; log sigma2 begins anew"
    )
    taken = serializers.DictionarySerializer()
    model.serialize(taken)
    variances = {name for name in taken.entries if name.endswith("log_sigma2")}
    assert len(variances) == 15
    for name in variances:
        assert (taken.entries.pop(name) == -10).all()
    check_same(dense.arrays, taken.entries)

    train, test = script.module.load_data(args)
    x = script.module.standardization_of(args, train.arrays[0])(test.arrays[0])
    for masked in (False, True):  # hardly a weight is noise
        predict = inspection.DenseModel(model, (3, 32, 32), masked=masked)
        error = inspection.error_rate(predict, x, test.arrays[1])
        accuracy = dense.log[-1]["validation/main/accuracy"]
        assert error == pytest.approx(1 - accuracy, abs=0 if not masked else 0.1)


def test_second_stage_learns_and_reports(script, train, dense):
    options = ("-e", 2, "--lr", 1e-3, "--kl-coef", 0.01)
    run = train("stage2", "-r", dense.folder / "model.npz", *options)
    first, last = run.log
    assert last["main/class"] < first["main/class"]
    assert [entry["main/kl_coef"] for entry in run.log] == pytest.approx(
        [2 / 300, 0.01]
    )
    lines = run.out.splitlines()
    assert lines[2].split() == script.module.COLUMNS
    assert len(lines[3].split()) == len(script.module.COLUMNS)
    assert (run.folder / "summary.txt").read_text() in run.out
    settings = json.loads((run.folder / "summary.json").read_text())["settings"]
    assert settings["mode"] == "pretrained"
    assert (settings["lr"], settings["warm_up"]) == (1e-3, 1)
    assert {path.name for path in run.folder.iterdir()} >= {
        "model.npz",
        "model_sparse.npz",
        "standardization.npz",
        "snapshot_iter_6",
    }


SCRATCH = ("-e", 3, "--lr", 1e-2, "--log-sigma2", -4, "--kl-epochs", 0, 1)
SCRATCH += ("--mask-from", 1, "--fine-tune", 1)


def test_scratch_learns_and_resumes_bit_for_bit(train):
    """With all that changes on the way: KL term, step size, masks, frozen noise."""
    once = train("once", *SCRATCH, "-f", 1)
    assert once.log[-1]["main/class"] < once.log[0]["main/class"]
    assert [e["main/kl_coef"] for e in once.log] == pytest.approx([1 / 3, 1, 0])
    again = train("again", *SCRATCH, "-f", -1, "-r", once.snapshot(3))
    check_same(once.arrays, again.arrays)
    assert again.errors == ""
    assert [path.name for path in again.folder.glob("snap*")] == ["snapshot_iter_9"]
    changed = once.arrays["fc2/log_sigma2"] != -4
    assert changed.any()

    ended = train("ended", *SCRATCH, "--seed", 3, "-r", once.snapshot(9))
    assert f"{once.snapshot(9)}: 3 of 3 epochs are done: nothing is" in ended.errors
    expected = f"warning: {once.snapshot(9)} was written with --seed 0, now 3\n"
    assert ended.errors.startswith(expected)
    check_same(once.arrays, ended.arrays)


def trainer_stub(script, mode, args):
    model = script.module.build_model(args, mode, 60)
    optimizer, *schedule = script.module.build_optimizer(args, mode, model)
    return model, optimizer, schedule


@pytest.mark.parametrize(
    ("mode", "rule", "hooks"),
    [
        ("pretrain", ("MomentumSGD", 0.1), {"WeightDecay": ("rate", 5e-4)}),
        ("pretrained", ("Adam", 1e-5), {}),
        ("scratch", ("Adam", 1e-4), {"GradientClipping": ("threshold", 10)}),
    ],
)
def test_recipes_are_the_originals(script, mode, rule, hooks):
    args = script.parse()
    args.lr = script.module.LR[mode]
    model, optimizer, _ = trainer_stub(script, mode, args)
    step = optimizer.hyperparameters[0]
    assert (type(optimizer).__name__, getattr(optimizer, step)) == rule
    assert optimizer.hooks.keys() == hooks.keys()
    for name, (attribute, value) in hooks.items():
        assert getattr(optimizer.hooks[name], attribute) == value
    assert model.use_raw_dropout is (mode == "pretrain")
    for block in (model.block1_1, model.block5_2):
        assert block.use_raw_dropout is (mode == "pretrain")


def test_kl_growth(script):
    module = script.module
    args = script.parse()
    args.warm_up = module.WARM_UP["pretrained"]
    assert module.kl_epochs(args, 60) == (0, 1 / 3)  # one iteration
    args.warm_up = module.WARM_UP["scratch"]
    assert module.kl_epochs(args, 60) == (0, pytest.approx(10_000 / 3))
    args.warm_up = 0
    assert module.kl_epochs(args, 60) == (0, 0)
    assert module.kl_epochs(script.parse("--kl-epochs", 2, 5), 60) == [2, 5]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--kl-epochs", 5, 20), ""),
        (
            ("-e", 10, "--kl-epochs", 5, 20),
            "warning: --epoch 10: the KL term grows to 0.33 of its weight only",
        ),
        (
            ("-e", 4, "--kl-epochs", 5, 20, "--mask-from", 4),
            "warning: --epoch 4: the KL term grows to 0 of its weight only and no "
            "weight will be masked in training",
        ),
    ],
)
def test_a_schedule_beyond_the_end_is_warned_of(script, arguments, expected):
    assert script.module.too_short(script.parse(*arguments), 60) == expected


def test_optimizer_state_of_a_snapshot(script, dense):
    args = script.parse("--pretrain")
    args.lr = 0.3
    model, optimizer, _ = trainer_stub(script, "pretrain", args)
    before = model.fc2.W.array.copy()
    generator = model.dropout_fc1.rng.bit_generator.state
    script.module.take_optimizer_state(str(dense.snapshot(6)), optimizer, model)
    assert (optimizer.t, optimizer.lr) == (6, 0.3)
    with numpy.load(dense.snapshot(6)) as file:
        stored = file["updater/optimizer:main/state/fc2/W/v"]
    assert stored.any()
    assert_array_equal(optimizer.state["/fc2/W"]["v"], stored)
    assert_array_equal(model.fc2.W.array, before)
    assert model.dropout_fc1.rng.bit_generator.state == generator


def test_resume_opt_is_used(train, dense):
    options = ("--pretrain", "-e", 1, "-r", dense.folder / "model.npz")
    plain = train("plain", *options)
    given = train("given", *options, "-ro", dense.snapshot(12))
    assert plain.out.startswith(f"{options[-1]}: all parameters of a plain model taken")
    assert (plain.arrays["fc2/W"] != given.arrays["fc2/W"]).any()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-r", "{dense}/model.npz", "-d", "cifar100"), "is of 10 classes, and --data"),
        (
            ("-r", "{dense}/model.npz", "--width", 0.125),
            r"has 4 channels in the first layer, and with --width 0.125 there are 8; g",
        ),
        (
            ("-r", "{dense}/standardization.npz"),
            r"must be a snapshot or a model.npz of train_cifar.py, and has no entry",
        ),
        (
            ("-ro", "{dense}/model.npz"),
            "must be a snapshot, and has no optim",
        ),
        (("-ro", "{dense}/snapshot_iter_6"), "must be of a run with Adam, which train"),
        (
            ("-r", "{dense}/less.npz"),
            "does not fit VGG16: it has no entry 'block1_1/bn/gamma'",
        ),
        (
            ("-r", "{dense}/variational.npz", "--pretrain"),
            "--pretrain trains the plain network, and this is of a variational one; l",
        ),
    ],
)
def test_files_of_another_kind(script, dense, tmp_path, options, expected):
    folder = shutil.copytree(dense.folder, tmp_path / "dense")
    arrays = dense.arrays
    variational = arrays | {"fc2/log_sigma2": arrays["fc2/W"]}
    numpy.savez(folder / "variational.npz", **variational)
    del arrays["block1_1/bn/gamma"]
    numpy.savez(folder / "less.npz", **arrays)
    options = [str(option).format(dense=folder) for option in options]
    refused(script, expected, "-o", tmp_path / "out", *options)


def test_data_options(script):
    args = script.parse("--validation", 10, "--limit", 30, "--split", 1)
    train, test = script.module.load_data(args)
    assert (len(train), len(test)) == (30, 10)
    x = train.arrays[0]
    assert script.module.standardization_of(args, x).mean.shape == (3, 32, 32)
    args = script.parse("--standardize", "channel")
    assert script.module.standardization_of(args, x).mean.shape == (3, 1, 1)


def test_standardization_goes_with_the_model(script, dense, tmp_path):
    folder = shutil.copytree(dense.folder, tmp_path / "dense")
    mean, std = (numpy.full((3, 1, 1), value, "f4") for value in (2, 3))
    given = datasets.Standardization(mean, std)
    serializers.save_npz(folder / "standardization.npz", given)
    args = script.parse("-r", folder / "model.npz")
    found = script.module.standardization_of(args, numpy.zeros((2, 3, 32, 32), "f4"))
    assert_array_equal(found.mean, mean)


def test_cifar100_has_100_fine_classes(script):
    args = script.parse("-d", "cifar100")
    train, _ = script.module.load_data(args)
    assert train.arrays[1].max() == 59
    model = script.module.build_model(args, "scratch", 60)
    assert model.fc2.W.array.shape == (100, 32)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--width", 0), "--width: must be a finite number above 0, got 0"),
        (("--limit", 0), "--limit: must be at least 1, got 0"),
        (("-f", 0), "--frequency: must be at least 1, or -1 for the end, got 0"),
        (("--lr", -1), "--lr: must be a finite number, positive or 0, got -1"),
        (
            ("--warm-up", 1, "--kl-epochs", 1, 2),
            "--kl-epochs: not allowed with argument --warm-up",
        ),
        (("--model", "vgg"), "--model: invalid choice: 'vgg'"),
    ],
)
def test_a_bad_option_is_named(script, capsys, arguments, expected):
    with pytest.raises(SystemExit):
        script.parse(*arguments)
    assert expected in capsys.readouterr().err


def test_full_width_model(script):
    """The original counted 28 layers of these 15, and gave each of them a bias."""
    model = script.module.VGG16VD(num_examples=50_000)
    links = list(L.get_vd_links(model))
    assert len(links) == 15
    assert [link.b for link in links] == [None] * 15
    assert {type(link) for link in links[:13]} == {L.VariationalDropoutConvolution2D}
    assert {type(link) for link in links[13:]} == {L.VariationalDropoutLinear}
    size = model.size()
    assert len(size.layers) == 15
    assert size.weights == WEIGHTS == sum(link.W.array.size for link in links)
    channels = sum(link.W.array.shape[0] for link in links[:-1])
    names = [path.rpartition("/")[2] for path, _ in model.namedparams()]
    assert names.count("gamma") == names.count("beta") == BATCH_NORMALIZATIONS
    assert size.others == 2 * channels
    assert WEIGHTS + size.others == 14_987_200
    # Statistics are those of all weights together, each counted once.
    for k, link in enumerate(links):
        link.W.array[...] = 1
        link.log_sigma2.array[...] = 5 if k == 5 else -5
    noise = links[5].W.array.size
    stats = L.calculate_stats(model)
    assert stats["sparsity"] == pytest.approx(noise / WEIGHTS)
    assert stats["W/Wnz"] == pytest.approx(WEIGHTS / (WEIGHTS - noise))


def test_conversion_keeps_the_function(script):
    vdcore.seed(0)
    plain = script.module.VGG16(class_labels=7, width=0.0625)
    converted = plain.copy()
    L.to_variational_dropout(converted, initial_log_sigma2=-30)
    names = {path for path, _ in converted.namedparams()}
    added = names - {path for path, _ in plain.namedparams()}
    assert len(added) == 15
    assert {path.rpartition("/")[2] for path in added} == {"log_sigma2"}
    x = numpy.random.default_rng(1).standard_normal((4, 3, 32, 32), dtype="f4")
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(converted(x), plain(x), rtol=1e-5, atol=1e-6)
