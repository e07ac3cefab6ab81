from __future__ import annotations

import io
import json
import sys
from itertools import pairwise

import numpy
import pytest

from vdcore.configuration import config
from vdcore.iterators import SerialIterator
from vdcore.reporter import report
from vdcore.training import extensions


def validation(dataset, size=8):
    return SerialIterator(dataset, size, repeat=False)


def history(trainer, read, **options):
    values = []
    trainer.extend(lambda trainer: values.append(read(trainer)), priority=-1, **options)
    trainer.run()
    return values


def model_of(trainer):
    return trainer.updater.get_optimizer().target


# Evaluator


def test_evaluator_averages_over_examples_in_test_mode(make_trainer, dataset):
    trainer = make_trainer()
    model = model_of(trainer)
    whole = extensions.Evaluator(
        validation(dataset, 20), model, eval_func=model.calc_loss
    )
    # Batches of 8, 8 and 4: an average of three batch averages would differ.
    parts = extensions.Evaluator(validation(dataset), model, eval_func=model.calc_loss)
    expected, averages = whole(), parts()
    assert averages["main/loss"] == pytest.approx(expected["main/loss"], rel=1e-6)
    assert averages["main/accuracy"] == pytest.approx(expected["main/accuracy"])
    assert parts() == averages  # no noise
    assert config.train is True


def test_evaluator_reports_under_its_name(make_trainer, dataset):
    trainer = make_trainer()
    model = model_of(trainer)
    for name in (None, "test"):
        evaluator = extensions.Evaluator(
            validation(dataset), model, eval_func=model.calc_loss
        )
        trainer.extend(evaluator, name=name)
    rows = history(trainer, lambda t: t.observation)
    assert "validation/main/accuracy" not in rows[2]
    assert rows[3]["validation/main/accuracy"] == rows[3]["test/main/accuracy"]
    assert rows[3]["validation/main/loss"] != rows[3]["main/loss"]


def test_evaluator_calls_its_hook_and_the_model_itself(dataset, make_trainer):
    model, calls = model_of(make_trainer()), []

    class Reporting(type(model)):
        def forward(self, x, t):
            calls.append(x.shape)
            report({"n": x.shape[0]}, self)

    target = Reporting(20)
    evaluator = extensions.Evaluator(
        validation(dataset), target, eval_hook=lambda e: calls.append(e.target)
    )
    assert evaluator() == {"main/n": (8 * 8 + 8 * 8 + 4 * 4) / 20}
    assert calls == [target, (8, 4), (8, 4), (4, 4)]


def test_evaluator_refuses_an_endless_iterator(make_trainer, dataset):
    with pytest.raises(ValueError, match=r"`iterator` must end .* pass repeat=False"):
        extensions.Evaluator(SerialIterator(dataset, 5), model_of(make_trainer()))


# The log


def numbered(trainer):
    report(
        {"number": trainer.updater.iteration, "twice": 2 * trainer.updater.iteration}
    )


def test_log_report_averages_over_its_interval(make_trainer):
    trainer = make_trainer((2, "epoch"))
    trainer.extend(numbered, priority=300)
    trainer.extend(extensions.LogReport(["number", "twice"], (3, "iteration")))
    trainer.run()
    log = trainer.get_extension("LogReport").log
    assert [(row["number"], row["twice"]) for row in log] == [(2, 4), (5, 10)]
    assert [(row["iteration"], row["epoch"]) for row in log] == [(3, 0), (6, 1)]
    assert set(log[0]) == {"number", "twice", "iteration", "epoch", "elapsed_time"}
    assert json.loads((trainer.out / "log").read_text()) == log


def test_log_report_logs_everything_by_default_and_postprocesses(make_trainer):
    trainer = make_trainer()

    def add_error(entry):
        entry["error"] = 1 - entry["main/accuracy"]

    trainer.extend(extensions.LogReport(postprocess=add_error, log_name="errors.json"))
    accuracies = history(trainer, lambda t: float(t.observation["main/accuracy"]))
    (first, second) = json.loads((trainer.out / "errors.json").read_text())
    assert first["error"] == pytest.approx(1 - numpy.mean(accuracies[:4]))
    assert second["main/accuracy"] == pytest.approx(numpy.mean(accuracies[4:]))


def test_print_report_prints_chainers_columns(make_trainer):
    trainer, out = make_trainer(), io.StringIO()
    trainer.extend(numbered, priority=300)
    trainer.extend(extensions.observe_value("half", lambda t: t.updater.iteration / 2))
    trainer.extend(extensions.LogReport())
    columns = ["epoch", "number", "validation/main/loss", "half"]
    trainer.extend(extensions.PrintReport(columns, out=out))
    with pytest.warns(UserWarning, match="got 'validation/main/loss', which no entry"):
        trainer.run()
    assert out.getvalue().splitlines() == [
        "epoch       number      validation/main/loss  half",
        "1           2.5                               2",
        "2           6.5                               4",
    ]


def test_print_report_names_empty_columns_and_those_there_are(make_trainer):
    def late(trainer):
        if trainer.updater.epoch == 1:  # is in the second row only
            report({"late": 1})

    trainer = make_trainer((2, "epoch"))
    trainer.extend(late, priority=300)
    trainer.extend(extensions.LogReport(["late"]))
    columns = ["los", "late", "epoch"]
    trainer.extend(extensions.PrintReport(columns, out=io.StringIO()))
    with pytest.warns(UserWarning, match="got 'los', which no entry has;") as warned:
        trainer.run()
    (warning,) = warned
    assert "'epoch'" in str(warning.message)
    assert "'late'" in str(warning.message)


def test_print_report_without_a_log_says_what_is_missing(make_trainer):
    trainer = make_trainer(extensions=[extensions.PrintReport(["epoch"])])
    with pytest.raises(ValueError, match=r"no extension 'LogReport', .* add it by"):
        trainer.run(show_loop_exception_msg=False)


def test_observe_lr(make_trainer):
    trainer = make_trainer(extensions=[extensions.observe_lr()])
    rows = history(trainer, lambda t: t.observation.get("lr"), trigger=(1, "epoch"))
    optimizer = trainer.updater.get_optimizer()
    assert rows[-1] == optimizer.lr
    assert len(rows) == 2


# Terminal and plots


def test_progress_bar_shows_position_and_share(make_trainer):
    pytest.importorskip("tqdm", reason="needs tqdm")
    out, table = io.StringIO(), io.StringIO()
    trainer = make_trainer((2, "epoch"))
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.PrintReport(["epoch"], out=table))
    bar = extensions.ProgressBar(out=out, show=True)
    trainer.extend(bar)
    trainer.extend(lambda t: bar._bar.refresh())
    trainer.run()
    frames = [frame.strip() for frame in out.getvalue().split("\r")]
    halfway = [f for f in frames if f.startswith("epoch 1.00, iteration 4 ")]
    assert " 50%" in halfway[-1]
    assert frames[-1] == ""  # taken away at the end
    assert table.getvalue().split() == ["epoch", "1", "2"]


def test_progress_bar_is_silent_where_there_is_no_terminal(make_trainer):
    pytest.importorskip("tqdm", reason="needs tqdm")
    out = io.StringIO()
    make_trainer(extensions=[extensions.ProgressBar(out=out)]).run()
    assert out.getvalue() == ""


def test_plot_report_draws_the_log(make_trainer, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure", reason="needs matplotlib")
    drawn, texts, ticks = [], [], []
    save = figure.Figure.savefig

    def record(self, file, **options):
        save(self, file, **options)
        (axes,) = self.axes
        drawn.append([(line.get_label(), line.get_xydata()) for line in axes.lines])
        texts.append((axes.get_title(), axes.get_xlabel(), axes.get_ylabel()))
        ticks.append(axes.get_xticks())
        (legend,), inside = self.legends, axes.get_legend()
        assert inside is None
        assert legend.get_window_extent().y1 <= axes.get_tightbbox().y0

    monkeypatch.setattr(figure.Figure, "savefig", record)
    trainer = make_trainer()
    trainer.extend(numbered, priority=300)
    trainer.extend(extensions.LogReport())
    plot = extensions.PlotReport(
        ["number", "main/loss"], "epoch", file_name="n.png", title="curves"
    )
    trainer.extend(plot)
    trainer.run()
    assert len(drawn) == 2  # one an epoch; nothing new at the end
    labels, points = zip(*drawn[-1], strict=True)
    assert labels == ("number", "main/loss")
    assert points[0].tolist() == [[1, 2.5], [2, 6.5]]
    assert texts[-1] == ("curves", "epoch", "number, loss")
    assert ticks[-1].tolist() == ticks[-1].round().tolist()
    assert (trainer.out / "n.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("module", "make", "extra"),
    [
        ("matplotlib", lambda: extensions.PlotReport("loss"), "plot"),
        ("tqdm", extensions.ProgressBar, "examples"),
    ],
)
def test_a_missing_library_names_the_extra(monkeypatch, module, make, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "vdcore\[{extra}\]"'):
        make()


# Snapshots


def names(trainer):
    return sorted(path.name for path in trainer.out.iterdir())


def test_the_latest_snapshot_is_that_of_the_highest_iteration(tmp_path):
    assert extensions.latest_snapshot(tmp_path / "none") is None
    for name in ("snapshot_iter_9", "snapshot_iter_10", "snapshot_iter_11.tmp", "log"):
        (tmp_path / name).touch()
    assert extensions.latest_snapshot(tmp_path) == tmp_path / "snapshot_iter_10"


def test_snapshots_are_kept_up_to_a_number(make_trainer):
    trainer = make_trainer((3, "epoch"))
    trainer.extend(extensions.snapshot(keep=2))
    model = model_of(trainer)
    trainer.extend(extensions.snapshot_object(model, "model", keep=1), name="model")
    trainer.run()
    assert names(trainer) == ["model", "snapshot_iter_12", "snapshot_iter_8"]
    with pytest.raises(ValueError, match="`keep` must be at least 1"):
        extensions.snapshot(keep=0)


# Schedules


def test_linear_shift_over_iterations_and_epochs(make_trainer):
    def alpha(trainer):
        return trainer.updater.get_optimizer().alpha

    trainer = make_trainer((6, "iteration"))
    trainer.extend(extensions.LinearShift("alpha", (0.25, 1.25), (2, 4)))
    assert history(trainer, alpha) == [0.25, 0.25, 0.75, 1.25, 1.25, 1.25]
    trainer = make_trainer((6, "iteration"))
    trainer.extend(extensions.LinearShift("alpha", (1.0, 0.0), (0, 1), unit="epoch"))
    assert history(trainer, alpha) == [0.75, 0.5, 0.25, 0, 0, 0]


def test_exponential_shift_counts_its_calls(make_trainer):
    def alpha(trainer):
        return trainer.updater.get_optimizer().alpha

    trainer = make_trainer((4, "epoch"))
    shift = extensions.ExponentialShift("alpha", 0.5, init=8.0, target=1.5)
    trainer.extend(shift, trigger=(1, "epoch"))
    assert history(trainer, alpha, trigger=(1, "epoch")) == [4.0, 2.0, 1.5, 1.5]
    trainer = make_trainer((2, "iteration"))
    trainer.extend(extensions.ExponentialShift("alpha", 3))
    assert history(trainer, alpha) == pytest.approx([0.03, 0.09])


@pytest.mark.parametrize(
    "shift",
    [
        extensions.LinearShift("momentum", (1, 0), (0, 1)),
        extensions.ExponentialShift("momentum", 0.5),
    ],
)
def test_a_shift_of_an_attribute_that_is_not_there(make_trainer, shift):
    trainer = make_trainer(extensions=[shift])
    with pytest.raises(
        ValueError, match=r"an attribute of Adam, one of alpha, .* got 'm"
    ):
        trainer.run(show_loop_exception_msg=False)


def test_kl_warm_up_is_a_ramp_in_epochs(make_trainer):
    trainer = make_trainer((2, "epoch"))
    trainer.extend(extensions.KLWarmUp(model_of(trainer), 0.5, 1.5, value=2.0))
    coefficients = history(trainer, lambda t: t.observation["main/kl_coef"])
    # Iteration i begins after (i - 1) / 4 epochs.
    assert coefficients == [0, 0, 0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_kl_stops_for_fine_tuning(make_trainer):
    trainer = make_trainer((2, "epoch"))
    trainer.extend(extensions.KLWarmUp(model_of(trainer), 0, 1, stop=1.5))
    coefficients = history(trainer, lambda t: t.observation["main/kl_coef"])
    assert coefficients == [0, 0.25, 0.5, 0.75, 1, 1, 0, 0]


def test_noise_is_frozen_from_an_epoch_on(make_trainer):
    """Iterations 1 to 5 begin before epoch 1.1; the means go on."""
    trainer = make_trainer((2, "epoch"))
    model = model_of(trainer)
    trainer.extend(extensions.FreezeNoise(model, 1.1))
    parameters = dict(model.namedparams())
    states = history(
        trainer,
        lambda t: {path: p.array.copy() for path, p in parameters.items()},
        call_before_training=True,
    )
    for path in parameters:
        changed = [(a[path] != b[path]).any() for a, b in pairwise(states)]
        if path.endswith("log_sigma2"):
            assert changed == [True] * 5 + [False] * 3
        else:
            assert changed == [True] * 8


@pytest.mark.parametrize(("epoch", "first"), [(0, 0), (1, 4), (1.1, 5)])
def test_masks_begin_at_an_epoch(make_trainer, epoch, first):
    trainer = make_trainer((2, "epoch"))
    model = model_of(trainer)
    trainer.extend(extensions.MaskFrom(model, epoch))
    masked = history(
        trainer,
        lambda t: {link.mask_in_training for _, link in model.variational_links()},
        call_before_training=True,
    )
    assert masked == [{iteration >= first} for iteration in range(9)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda m: extensions.LinearShift("lr", (0, 1), (3, 2)), "must not be after"),
        (lambda m: extensions.LinearShift("lr", (0, 1), (0, 2), unit="day"), "`unit`"),
        (lambda m: extensions.ExponentialShift("lr", 0), "`rate` must be positive"),
        (lambda m: extensions.KLWarmUp(m, 3, 2), "got 3 and 2"),
        (lambda m: extensions.KLWarmUp(m, 0, 2, stop=1), "before `end`, 2; got 1"),
        (lambda m: extensions.MaskFrom(m, -1), "MaskFrom: `epoch` must not be neg"),
        (lambda m: extensions.FreezeNoise(m, -1), "FreezeNoise: `epoch` must not be"),
    ],
)
def test_bad_arguments(make_trainer, make, text):
    model = model_of(make_trainer())
    with pytest.raises(ValueError, match=text):
        make(model)


def test_kl_warm_up_refuses_a_model_that_warms_up_itself(make_trainer):
    model = model_of(make_trainer())
    model.warm_up = 1e-4
    with pytest.raises(ValueError, match="build it with warm_up=0"):
        extensions.KLWarmUp(model, 0, 5)
