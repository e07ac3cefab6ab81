from __future__ import annotations

import re

import pytest

from vdcore.training import (
    PRIORITY_EDITOR,
    PRIORITY_WRITER,
    Extension,
    Trainer,
    make_extension,
)
from vdcore.training.extensions import LogReport, PrintReport, snapshot
from vdcore.training.triggers import ManualScheduleTrigger


class Witness(Extension):
    """Appends what happens to it to a list that witnesses share."""

    def __init__(self, events, label="witness"):
        self.events = events
        self.label = label

    def initialize(self, trainer):
        self.events.append(f"{self.label} initialize")

    def __call__(self, trainer):
        self.events.append(f"{self.label} {trainer.updater.iteration}")

    def finalize(self):
        self.events.append(f"{self.label} finalize")


def iterations(trainer, **options):
    seen = []
    trainer.extend(lambda trainer: seen.append(trainer.updater.iteration), **options)
    trainer.run()
    return seen


def test_a_run_ends_at_the_stop_trigger(make_trainer):
    assert iterations(make_trainer((3, "epoch"))) == list(range(1, 13))
    assert iterations(make_trainer((5, "iteration"))) == [1, 2, 3, 4, 5]
    assert iterations(make_trainer((0, "epoch"))) == []
    assert iterations(make_trainer(lambda t: t.updater.iteration == 2)) == [1, 2]


def test_extensions_run_by_their_triggers(make_trainer):
    assert iterations(make_trainer(), trigger=(1, "epoch")) == [4, 8]
    assert iterations(make_trainer(), trigger=(3, "iteration")) == [3, 6]
    trigger = ManualScheduleTrigger([2, 7], "iteration")
    assert iterations(make_trainer(), trigger=trigger) == [2, 7]
    seen = iterations(make_trainer(), trigger=(4, "epoch"), call_before_training=True)
    assert seen == [0]


def test_priority_then_order_of_addition(make_trainer):
    trainer, events = make_trainer((1, "iteration")), []
    for label, priority in [("b", None), ("a", PRIORITY_WRITER), ("c", None), ("d", 0)]:
        trainer.extend(Witness(events, label), priority=priority)
    trainer.run()
    steps = [event for event in events if event.endswith("1")]
    assert steps == ["a 1", "b 1", "c 1", "d 1"]


def test_observations_are_those_of_one_iteration(make_trainer):
    trainer = make_trainer((2, "iteration"))
    trainer.run()
    assert set(trainer.observation) == {
        "main/accuracy",
        "main/class",
        "main/kl",
        "main/kl_coef",
        "main/loss",
        "main/mean_p",
        "main/sparsity",
        "main/W/Wnz",
    }
    total = trainer.observation["main/class"] + trainer.observation["main/kl"]
    assert float(trainer.observation["main/loss"]) == pytest.approx(float(total))


def test_names(make_trainer):
    trainer = make_trainer()

    @make_extension(trigger=(1, "epoch"), priority=PRIORITY_EDITOR)
    def shout(trainer):
        pass

    first, second = Witness([]), Witness([])
    trainer.extend(shout)
    trainer.extend(first)
    trainer.extend(second)
    trainer.extend(Witness([]), name="third")
    assert trainer.get_extension("shout") is shout
    assert trainer.get_extension("Witness") is first
    assert trainer.get_extension("Witness_1") is second
    with pytest.raises(ValueError, match="there is an extension 'third' already"):
        trainer.extend(Witness([]), name="third")
    with pytest.raises(
        ValueError, match="no extension 'LogReport', there are shout, W"
    ):
        trainer.get_extension("LogReport")
    with pytest.raises(TypeError, match="must be an Extension or a callable, got str"):
        trainer.extend("LogReport")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_extensions_are_finalized_however_the_loop_ends(make_trainer, capsys, error):
    trainer, events = make_trainer(), []

    def fail(trainer):
        message = "stop here"
        raise error(message)

    trainer.extend(Witness(events, "a"))
    trainer.extend(Witness(events, "b"))
    trainer.extend(fail, trigger=(2, "iteration"), priority=0)
    with pytest.raises(error, match="stop here"):
        trainer.run()
    assert events[2:] == ["a 1", "b 1", "a 2", "b 2", "a finalize", "b finalize"]
    announced = "Exception in main training loop: stop here" in capsys.readouterr().err
    assert announced == (error is ValueError)


def test_other_ranks_leave_out_what_is_for_the_main_rank(make_trainer, capsys):
    trainer, events = make_trainer((1, "epoch")), []
    trainer.is_main_rank = False
    alone = Witness(events, "alone")
    alone.main_rank_only = True
    for extension in (alone, Witness(events, "all"), LogReport(), snapshot()):
        trainer.extend(extension)
    trainer.extend(PrintReport(["epoch"]))
    trainer.run()
    assert {event.split()[0] for event in events} == {"all"}
    assert list(trainer.out.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_all_extensions_are_finalized_though_one_fails(make_trainer):
    class Careless(Extension):
        def finalize(self):
            message = "cannot close"
            raise OSError(message)

    events = []
    trainer = make_trainer((0, "epoch"), [Careless(), Witness(events)])
    with pytest.raises(OSError, match="cannot close"):
        trainer.run()
    assert events[-1] == "witness finalize"


def test_a_trainer_runs_once(make_trainer):
    trainer = make_trainer((1, "iteration"))
    trainer.run()
    with pytest.raises(RuntimeError, match="has run already; make a new one and load"):
        trainer.run()


def test_out_must_not_be_a_file(make_trainer, tmp_path):
    (tmp_path / "result").write_text("")
    with pytest.raises(
        NotADirectoryError, match=r"`out` must be a folder .* is a file"
    ):
        make_trainer()


def test_elapsed_time_stands_still_outside_a_run(make_trainer):
    trainer, times = make_trainer((2, "iteration")), []
    assert trainer.elapsed_time == 0
    trainer.extend(lambda trainer: times.append(trainer.elapsed_time))
    trainer.run()
    assert 0 < times[0] < times[1] < trainer.elapsed_time == trainer.elapsed_time


@pytest.mark.parametrize("stop", ["epoch", 20, (1, 2, 3)])
def test_a_bad_stop_trigger(make_trainer, stop):
    text = re.escape(f"a callable, got {stop!r}")
    with pytest.raises(TypeError, match=f"Trainer: `stop_trigger` must be .*{text}"):
        Trainer(make_trainer().updater, stop)
