"""A run that is stopped and continued is the run that was never stopped."""

from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.iterators import SerialIterator
from vdcore.serialization import DictionarySerializer
from vdcore.serializers import FileFormatError, load_npz, read_npz, save_npz
from vdcore.training import extensions
from vdcore.training.triggers import MinValueTrigger

TIMES = ("extensions/LogReport/log", "elapsed_time")


@pytest.fixture
def make_full_trainer(make_trainer, dataset):
    """A function that builds a trainer with every kind of state."""

    def make(stop):
        trainer = make_trainer(stop)
        model = trainer.updater.get_optimizer().target
        evaluator = extensions.Evaluator(
            SerialIterator(dataset, 8, repeat=False), model, eval_func=model.calc_loss
        )
        trainer.extend(evaluator)
        trainer.extend(extensions.KLWarmUp(model, 0, 2))
        trainer.extend(extensions.MaskFrom(model, 1))
        trainer.extend(extensions.ExponentialShift("alpha", 0.9), trigger=(1, "epoch"))
        trainer.extend(extensions.LinearShift("beta1", (0.9, 0.8), (0, 10)))
        trainer.extend(extensions.LogReport(trigger=(3, "iteration")))
        trainer.extend(
            extensions.snapshot_object(model, "best"),
            name="best",
            trigger=MinValueTrigger("main/loss", (2, "iteration")),
        )
        trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
        return trainer

    return make


def state(trainer):
    writer = DictionarySerializer()
    trainer.serialize(writer)
    return writer.entries


def assert_same_state(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name in expected.keys() - set(TIMES):
        assert_array_equal(actual[name], expected[name], err_msg=name)


@pytest.mark.parametrize("stopped_after", [1, 4, 5, 8])
def test_a_resumed_run_is_the_same_bit_for_bit(make_full_trainer, stopped_after):
    whole = make_full_trainer((10, "iteration"))
    whole.run()
    first = make_full_trainer((stopped_after, "iteration"))
    first.run()
    second = make_full_trainer((10, "iteration"))
    load_npz(first.out / f"snapshot_iter_{stopped_after}", second)
    second.run()
    assert_same_state(state(second), state(whole))
    log, expected = (t.get_extension("LogReport").log for t in (second, whole))
    assert len(log) == 3
    for row, expected_row in zip(log, expected, strict=True):
        del row["elapsed_time"], expected_row["elapsed_time"]
    assert log == expected


def test_a_finished_run_has_nothing_to_resume(make_full_trainer):
    trainer = make_full_trainer((5, "iteration"))
    trainer.run()
    for stop in ((5, "iteration"), (1, "epoch")):
        again = make_full_trainer(stop)
        load_npz(trainer.out / "snapshot_iter_5", again)
        assert again.elapsed_time > 0
        again.run()
        assert again.updater.iteration == 5


def test_ctrl_c_leaves_the_last_snapshot_whole(make_full_trainer):
    whole = make_full_trainer((7, "iteration"))
    whole.run()
    trainer = make_full_trainer((7, "iteration"))
    loss, calls = trainer.updater.loss_func, []

    def interrupted(x, t):
        calls.append(x)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss(x, t)

    trainer.updater.loss_func = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    resumed = make_full_trainer((7, "iteration"))
    load_npz(trainer.out / "snapshot_iter_3", resumed)
    resumed.run()
    assert_same_state(state(resumed), state(whole))


def test_ctrl_c_while_a_snapshot_is_written(make_full_trainer, monkeypatch):
    trainer = make_full_trainer((3, "iteration"))

    def interrupt(trainer):
        def fail(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("vdcore.serializers.npy.write_array", fail)

    trainer.extend(interrupt, trigger=(3, "iteration"))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    left = {p.name for p in trainer.out.iterdir() if p.name.startswith((".", "snap"))}
    assert left == {"snapshot_iter_1", "snapshot_iter_2"}
    assert read_npz(trainer.out / "snapshot_iter_2")["updater/iteration"] == 2


def test_a_snapshot_cut_short_changes_nothing(make_full_trainer):
    trainer = make_full_trainer((2, "iteration"))
    trainer.run()
    path = trainer.out / "snapshot_iter_2"
    path.write_bytes(path.read_bytes()[:-1000])
    fresh = make_full_trainer((2, "iteration"))
    before = state(fresh)
    with pytest.raises(FileFormatError, match=r"iter_2` is damaged .*earlier snapshot"):
        load_npz(path, fresh)
    assert_same_state(state(fresh), before)


def test_a_snapshot_of_another_model_changes_nothing(make_full_trainer, tmp_path):
    trainer = make_full_trainer((2, "iteration"))
    trainer.run()
    model = trainer.updater.get_optimizer().target
    model.l2.W.array = numpy.zeros((5, 8), dtype=numpy.float32)
    save_npz(tmp_path / "other", trainer)
    fresh = make_full_trainer((2, "iteration"))
    before = state(fresh)
    text = (
        r"'updater/model:main/l2/W' must be float32 of shape \(3, 8\), got .*\(5, 8\)"
    )
    with pytest.raises(FileFormatError, match=text):
        load_npz(tmp_path / "other", fresh)
    assert_same_state(state(fresh), before)


def test_the_model_of_a_snapshot_can_be_read_alone(make_full_trainer):
    trainer = make_full_trainer((2, "iteration"))
    trainer.run()
    model = make_full_trainer((1, "iteration")).updater.get_optimizer().target
    load_npz(trainer.out / "snapshot_iter_2", model, prefix="updater/model:main/")
    expected = trainer.updater.get_optimizer().target
    assert_array_equal(model.l2.log_sigma2.array, expected.l2.log_sigma2.array)


def test_a_model_of_unknown_sizes_takes_those_of_the_file(make_trainer, tmp_path):
    from vdcore import Sequential
    from vdcore import links as L

    trained = Sequential(L.Linear(4, 3), L.Linear(3, 2))
    save_npz(tmp_path / "model.npz", trained)
    lazy = Sequential(L.Linear(None, 3), L.Linear(None, 2))
    with pytest.raises(RuntimeError, match=r"shape of parameter 'W' .* not known yet"):
        save_npz(tmp_path / "lazy.npz", lazy)
    load_npz(tmp_path / "model.npz", lazy)
    assert_array_equal(lazy[1].W.array, trained[1].W.array)
