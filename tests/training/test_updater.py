from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

import vdcore
from vdcore import functions as F
from vdcore import links as L
from vdcore.datasets import TupleDataset
from vdcore.iterators import SerialIterator
from vdcore.optimizers import SGD, MomentumSGD, NonFiniteLossError
from vdcore.serializers import FileFormatError, load_npz, read_npz, save_npz
from vdcore.training import StandardUpdater


class Mean(vdcore.Link):
    """Loses the squared distance of one parameter to the mean of its batch."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.W = vdcore.Parameter(vdcore.initializers.Constant(1.0), ())

    def forward(self, x, weight=1.0):
        return weight * (self.W.array - float(x.mean())) ** 2


def test_one_update_is_a_step_on_one_batch():
    model = Mean()
    iterator = SerialIterator(numpy.asarray([3.0, 5.0, 8.0, 0.0]), 2, shuffle=False)
    updater = StandardUpdater(iterator, SGD(0.125).setup(model))
    updater.update()
    # W - lr * 2 * (W - mean) = 1 - 0.25 * (1 - 4)
    assert float(model.W.array) == 1.75
    assert (updater.iteration, updater.epoch, updater.epoch_detail) == (1, 0, 0.5)
    updater.update()
    assert float(model.W.array) == 1.75 - 0.25 * (1.75 - 4)
    assert (updater.epoch, updater.is_new_epoch, updater.previous_epoch_detail) == (
        1,
        True,
        0.5,
    )
    assert updater.get_optimizer().epoch == 1


@pytest.mark.parametrize(
    "dataset",
    [
        [{"x": numpy.float64(4.0), "weight": 2.0}] * 2,
        [(numpy.float64(4.0), 2.0)] * 2,
    ],
)
def test_fields_of_an_example_are_arguments_of_the_loss(dataset):
    model = Mean()

    def loss(x, weight):
        return model(x, weight=float(weight[0]))

    iterator = SerialIterator(dataset, 2, shuffle=False)
    StandardUpdater(iterator, SGD(0.125).setup(model), loss_func=loss).update()
    assert float(model.W.array) == 1 - 0.125 * 2 * 2 * (1 - 4)


def test_bad_arguments():
    iterator = SerialIterator(numpy.zeros(4), 2)
    with pytest.raises(
        RuntimeError, match=r"'main' has no target; call optimizer\.setup"
    ):
        StandardUpdater(iterator, SGD())
    with pytest.raises(ValueError, match=r"`non_finite` must be one of .* got 'hide'"):
        StandardUpdater(iterator, SGD().setup(Mean()), non_finite="hide")


def arrays(trainer):
    model = trainer.updater.get_optimizer().target
    return {path: numpy.array(p.array) for path, p in model.namedparams()}


def test_a_batch_that_is_not_finite_is_named(make_trainer, dataset):
    dataset.arrays[0][:, 2] = numpy.inf
    trainer = make_trainer(dataset=dataset)
    before = arrays(trainer)
    with (
        numpy.errstate(invalid="ignore"),
        pytest.raises(
            NonFiniteLossError,
            match=r"^iteration 1: the batch itself is not finite: 5 values of its ar",
        ),
    ):
        trainer.run(show_loop_exception_msg=False)
    for path, array in arrays(trainer).items():
        assert_array_equal(array, before[path])


def test_a_parameter_that_is_not_finite_is_named(make_trainer):
    trainer = make_trainer()
    model = trainer.updater.get_optimizer().target

    def poison(trainer):
        model.l2.log_sigma2.array[1, 3] = numpy.nan

    trainer.extend(poison, trigger=(3, "iteration"))
    with (
        numpy.errstate(invalid="ignore"),
        pytest.raises(
            NonFiniteLossError,
            match=r"^iteration 4: parameter '/l2/log_sigma2' was not finite before "
            r"this update: 1 of its values; go on from an earlier snapshot, or begin "
            r"anew\. update: the loss is nan; this update changed no parameter\. ",
        ),
    ):
        trainer.run(show_loop_exception_msg=False)


class Overflowing(vdcore.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(2, 3, initialW=1.0)
            self.l2 = L.Linear(3, 2, initialW=1e30)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


def overflowing_updater(loss):
    x = numpy.full((4, 2), 1e20, dtype=numpy.float32)
    dataset = TupleDataset(x, numpy.asarray([0, 1, 0, 1]))
    model = Overflowing()
    optimizer = SGD().setup(model)
    return StandardUpdater(
        SerialIterator(dataset, 2), optimizer, loss_func=lambda x, t: loss(model, x, t)
    )


def test_the_first_layer_whose_output_is_not_finite_is_named():
    updater = overflowing_updater(
        lambda model, x, t: F.softmax_cross_entropy(model(x), t)
    )
    with (
        numpy.errstate(all="ignore"),
        pytest.raises(
            NonFiniteLossError,
            match=r"output of link '/l2' \(Linear\) is not finite, its input is\. ",
        ),
    ):
        updater.update()


def test_a_loss_that_is_not_finite_by_itself_is_told_from_the_layers():
    updater = overflowing_updater(
        lambda model, x, t: F.softmax_cross_entropy(model.l1(x) * 1e-20, t) * numpy.nan
    )
    with pytest.raises(
        NonFiniteLossError, match="outputs of all links are finite, the l"
    ):
        updater.update()


def test_a_loss_that_is_finite_the_second_time_is_said_to_be():
    factors = iter([numpy.nan, 1.0])
    updater = overflowing_updater(
        lambda model, x, t: (
            F.softmax_cross_entropy(model.l1(x) * 1e-20, t) * next(factors)
        )
    )
    with pytest.raises(NonFiniteLossError, match="so is the loss evaluated once more"):
        updater.update()


def test_skipping_is_counted_reported_and_announced_once(make_trainer, dataset):
    bad = numpy.asarray([3, 8])
    dataset.arrays[0][bad] = numpy.nan
    trainer = make_trainer((2, "epoch"), dataset=dataset, non_finite="skip")
    rows = []

    def record(trainer):
        order = trainer.updater.get_iterator()
        rows.append((trainer.observation, trainer.updater.skipped, order.epoch))

    trainer.extend(record)
    with (
        numpy.errstate(invalid="ignore"),
        pytest.warns(
            RuntimeWarning, match="the batch is skipped, as will be"
        ) as warned,
    ):
        trainer.run()
    assert len(warned) == 1
    skipped = [observation["skipped"] for observation, _, _ in rows]
    assert 2 <= sum(skipped) <= 4  # each bad example comes twice
    assert trainer.updater.skipped == sum(skipped)
    assert trainer.updater.iteration == 8
    assert trainer.updater.get_optimizer().t == 8 - sum(skipped)
    for observation, _, _ in rows:
        assert set(observation) == {"skipped"} or "main/loss" in observation
        assert numpy.isfinite(float(observation.get("main/loss", 0)))
    assert all(numpy.isfinite(array).all() for array in arrays(trainer).values())


def test_a_skipped_batch_leaves_running_statistics_as_they_were():
    model = vdcore.Sequential(L.BatchNormalization(2), L.Linear(2, 3))
    x = numpy.arange(8, dtype=numpy.float32).reshape(4, 2)
    x[2:] = numpy.nan
    updater = StandardUpdater(
        SerialIterator(x, 2, shuffle=False),
        SGD(0.1).setup(model),
        loss_func=lambda x: F.softmax_cross_entropy(model(x), numpy.zeros(2, int)),
        non_finite="skip",
    )
    updater.update()
    before = model[0].avg_mean.copy()
    with pytest.warns(RuntimeWarning, match="the batch is skipped"):
        updater.update()
    assert_array_equal(model[0].avg_mean, before)
    assert numpy.isfinite(model[0].avg_var).all()


def test_a_refused_file_leaves_an_optimizer_that_can_go_on(tmp_path):
    """Also where the shapes of its model are not known yet."""

    def updater_of(inputs):
        model = vdcore.Sequential(L.Linear(None, 3))
        x = numpy.ones((4, inputs), numpy.float32)
        labels = numpy.zeros(2, int)
        return StandardUpdater(
            SerialIterator(x, 2),
            MomentumSGD(0.1).setup(model),
            loss_func=lambda x: F.softmax_cross_entropy(model(x), labels),
        )

    saved, other = updater_of(2), updater_of(5)
    saved.update()
    save_npz(tmp_path / "saved", saved.get_optimizer())
    read = read_npz(tmp_path / "saved")
    del read["t"]
    numpy.savez(tmp_path / "cut.npz", **read)
    with pytest.raises(FileFormatError):
        load_npz(tmp_path / "cut.npz", other.get_optimizer())
    other.update()
    assert other.get_optimizer().t == 1
