"""Several processes train as one: run by ``mpiexec -n 2`` as a script, and by pytest.

The cases are functions of a communicator and a folder; every process runs all of them.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vdcore
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import array_namespace, asarray_like, to_numpy, untraced
from vdcore.datasets import RandomCropFlip, TupleDataset, scatter_dataset
from vdcore.iterators import SerialIterator
from vdcore.optimizers import Adam, GradientClipping, MomentumSGD, NonFiniteLossError
from vdcore.reporter import report
from vdcore.serialization import DictionarySerializer
from vdcore.serializers import FileFormatError, load_npz, read_npz
from vdcore.testing import stand_in_namespace
from vdcore.training import (
    Communicator,
    ParallelUpdater,
    StandardUpdater,
    Trainer,
    create_communicator,
    extensions,
)
from vdcore.training.triggers import MinValueTrigger


class Classifier(L.VariationalDropoutChain):
    """Two layers; variational ones if not told otherwise."""

    def __init__(self, layer=L.VariationalDropoutLinear, num_examples=24, hidden=5):
        super().__init__(num_examples=num_examples, warm_up=0)
        with self.init_scope():
            self.l1 = layer(4, hidden)
            self.l2 = layer(hidden, 3)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))

    def plain_loss(self, x, t):
        y = self(x)
        loss = F.softmax_cross_entropy(y, t)
        report({"loss": untraced(loss), "accuracy": F.accuracy(y, t)}, self)
        return loss


class TableLinear(L.VariationalDropoutLinear):
    """Takes its noise from a table with a row for each example of an epoch."""

    table = None

    def draw_noise(self, shape, like):
        rows, self.table = self.table[: shape[0]], self.table[shape[0] :]
        return asarray_like(rows.astype(like.dtype), like)


def make_dataset(size=24, dtype="f4"):
    rng = numpy.random.default_rng(5)
    x = rng.standard_normal((size, 4)).astype(dtype)
    return TupleDataset(x, numpy.argmax(x[:, :3], axis=1))


def cast(model, dtype):
    for parameter in model.params():
        parameter.array = parameter.array.astype(dtype)
    return model


def observed_update(updater):
    """Do one update; return what was reported."""
    trainer = Trainer(updater)
    with trainer.reporter.scope(trainer.observation):
        updater.update()
    return trainer.observation


def parallel(comm, model, optimizer, data=None, batch=4, loss=None, **options):
    part = scatter_dataset(data or make_dataset(), comm)
    iterator = SerialIterator(part, batch, shuffle=False)
    return ParallelUpdater(
        iterator,
        optimizer.setup(model),
        comm,
        loss_func=loss or model.calc_loss,
        **options,
    )


def single(comm, model, optimizer, data=None, batch=4, loss=None):
    iterator = SerialIterator(data or make_dataset(), batch * comm.size, shuffle=False)
    return StandardUpdater(
        iterator, optimizer.setup(model), loss_func=loss or model.calc_loss
    )


def assert_same_on_all_ranks(comm, arrays):
    arrays = list(arrays)
    for other in comm.allgather_obj(arrays):
        for array, expected in zip(other, arrays, strict=True):
            assert_array_equal(array, expected)


def assert_same_training(first, second, comm, tolerance, steps=7):
    for _ in range(steps):
        reports, expected = observed_update(first), observed_update(second)
        assert reports.keys() == expected.keys()
        for key, value in expected.items():
            assert_allclose(reports[key], value, rtol=10 * tolerance, err_msg=key)
        models = [updater.get_optimizer().target for updater in (first, second)]
        for p, q in zip(*(model.params() for model in models), strict=True):
            scale = numpy.abs(q.grad).max()
            assert_allclose(p.grad, q.grad, rtol=tolerance, atol=tolerance * scale)
            assert_allclose(p.array, q.array, rtol=tolerance, atol=tolerance)
        assert_same_on_all_ranks(comm, (p.array for p in models[0].params()))
    assert first.epoch_detail == second.epoch_detail > 2


# Cases


def case_plain_network(comm, folder):
    for dtype, tolerance in (("f4", 3e-6), ("f8", 1e-12)):
        updaters = []
        for make in (parallel, single):
            vdcore.seed(3)
            model = cast(Classifier(L.Linear), dtype)
            optimizer = MomentumSGD(0.1)
            optimizer.add_hook(GradientClipping(0.5))
            data = make_dataset(dtype=dtype)
            updaters.append(make(comm, model, optimizer, data, loss=model.plain_loss))
        assert_same_training(*updaters, comm, tolerance)


def case_variational_network_with_given_noise(comm, folder):
    for dtype, tolerance in (("f4", 1e-5), ("f8", 1e-12)):
        updaters = []
        for make in (parallel, single):
            own = slice(comm.rank, None, comm.size)
            model = with_given_noise(dtype, own if make is parallel else slice(None))
            data = make_dataset(dtype=dtype)
            updaters.append(make(comm, model, MomentumSGD(0.1), data))
        assert_same_training(*updaters, comm, tolerance)


def with_given_noise(dtype, rows):
    vdcore.seed(3)
    model = cast(Classifier(TableLinear), dtype)
    rng = numpy.random.default_rng(8)
    for link in model.children():
        link.log_sigma2.array += 8
        link.table = rng.standard_normal((200, link.out_size))[rows]
    return model


def case_kl_counts_once(comm, folder):
    model = cast(Classifier(), "f8")
    copy = model.copy()
    for make, target in ((single, copy), (parallel, model)):

        def kl_alone(x, t, target=target):
            return target.calc_loss(x, t, split_loss=True)[1]

        data = make_dataset(dtype="f8")
        make(comm, target, MomentumSGD(1.0), data, loss=kl_alone).update()
    for p, q in zip(model.params(), copy.params(), strict=True):
        assert_allclose(p.array, q.array, rtol=1e-13, atol=1e-300)


def case_batches_of_different_size(comm, folder):
    # Rank r has r + 1 shares of the data, and batches of as many: one epoch for all.
    shares = sum(range(1, comm.size + 1))
    data = make_dataset(8 * shares, "f8")
    start = 8 * sum(range(1, comm.rank + 1))
    part = data[start : start + 8 * (comm.rank + 1)]
    vdcore.seed(3)
    model = cast(Classifier(L.Linear), "f8")
    whole = model.copy()
    optimizer = MomentumSGD(0.1).setup(model)
    iterator = SerialIterator(part, 8 * (comm.rank + 1), shuffle=False)
    ParallelUpdater(iterator, optimizer, comm, loss_func=model.plain_loss).update()
    expected = MomentumSGD(0.1).setup(whole)
    expected.update(whole.plain_loss, *data.arrays)
    for p, q in zip(model.params(), whole.params(), strict=True):
        assert_allclose(p.array, q.array, rtol=1e-12, atol=1e-15)


def case_ranks_at_different_points_of_their_epochs(comm, folder):
    model = Classifier()
    size = 8 + comm.rank
    iterator = SerialIterator(make_dataset(size), 4)
    updater = ParallelUpdater(
        iterator, Adam().setup(model), comm, loss_func=model.calc_loss
    )
    text = r"same point of their epochs, got 0.5 on rank 0 and 0.444444 on rank 1; give"
    with pytest.raises(ValueError, match=text):
        updater.update()


def case_first_weights_are_those_of_rank_0(comm, folder):
    vdcore.seed(comm.rank)
    sizes_known, sizes_unknown = Classifier(), Classifier()
    sizes_unknown.replace_child("l1", L.VariationalDropoutLinear(None, 5))
    assert (
        len({float(w[0].sum()) for w in comm.allgather_obj(weights(sizes_known))}) > 1
    )
    parallel(comm, sizes_known, Adam())
    assert_same_on_all_ranks(comm, weights(sizes_known))
    vdcore.seed(0)
    assert_array_equal(weights(sizes_known)[0], weights(Classifier())[0])
    updater = parallel(comm, sizes_unknown, Adam())
    updater.update()
    assert_same_on_all_ranks(comm, weights(sizes_unknown))


def weights(model):
    return [parameter.array for parameter in model.params()]


def case_models_that_differ(comm, folder):
    text = (
        r"'/l1/W' is float32 of shape \(5, 4\) on rank 0 and float32 of shape \(6, 4\) "
        r"on rank 1\. Give the model the same arguments"
    )
    with pytest.raises(ValueError, match=text):
        parallel(comm, Classifier(hidden=5 + comm.rank), Adam())
    layer = L.VariationalDropoutLinear if comm.rank else L.Linear
    with pytest.raises(
        ValueError, match="log_sigma2' is missing on rank 0 and float32"
    ):
        parallel(comm, Classifier(layer), Adam())
    text = "the shape of parameter '/l1/W' is not known yet; call the model on one"
    lazy = Classifier()
    lazy.replace_child("l1", L.Linear(None, 5))
    with pytest.raises(RuntimeError, match=text):
        comm.bcast_data(lazy)


def case_reports_that_differ(comm, folder):
    model = Classifier()

    def loss(x, t):
        if comm.rank:
            report({"extra": 1.0}, model)
        return model.calc_loss(x, t, calc_stats=False)

    updater = parallel(comm, model, Adam(), loss=loss)
    text = (
        "got 'main/class', .* on rank 0 and 'main/extra', .* on rank 1; report on all"
    )
    with pytest.raises(ValueError, match=text):
        observed_update(updater)


class Noisy(vdcore.Chain):
    """One source of random numbers of each kind."""

    def __init__(self):
        super().__init__()
        self.drawn = []
        with self.init_scope():
            self.variational = L.VariationalDropoutLinear(16, 1)
            self.dropout = L.Dropout()

    def forward(self, x, t):
        noise = self.variational.draw_noise((4, 8), like=x)
        ones = numpy.ones((4, 8), dtype=x.dtype)
        masks = self.dropout(ones), F.dropout(ones)
        self.drawn = [noise, *map(untraced, masks), x, t]
        return F.softmax_cross_entropy(self.variational(x), 0 * t)


def noisy_updater(comm):
    vdcore.seed(1)
    model = Noisy()
    images = numpy.arange(8 * 16, dtype="f4").reshape(8, 1, 4, 4)
    iterator = SerialIterator(
        TupleDataset(images, numpy.arange(8)), 8, transform=RandomCropFlip(2)
    )
    return ParallelUpdater(iterator, Adam().setup(model), comm)


def case_noise_is_independent_and_repeatable(comm, folder):
    updater, again = noisy_updater(comm), noisy_updater(comm)
    for _ in range(2):
        for each in (updater, again):
            each.update()
        model = updater.get_optimizer().target
        drawn = comm.allgather_obj(model.drawn)
        for first, second in zip(drawn[0], drawn[1], strict=True):
            assert (first != second).any()
        for first, second in zip(
            model.drawn, again.get_optimizer().target.drawn, strict=True
        ):
            assert_array_equal(first, second)


def case_rank_0_draws_as_a_single_process(comm, folder):
    vdcore.seed(2)
    model = Classifier()
    expected = model.copy().l1.draw_noise((3, 5), like=weights(model)[0])
    parallel(comm, model, Adam())
    noise = model.l1.draw_noise((3, 5), like=weights(model)[0])
    assert (noise == expected).all() == (comm.rank == 0)


def case_evaluation_is_that_of_one_process(comm, folder):
    vdcore.seed(0)
    model = Classifier()
    data = make_dataset(8 * comm.size + 1)  # rank 0 has one more than the others
    part = scatter_dataset(data, comm, shuffle=True, force_equal_length=False)
    assert len(part) == 8 + (comm.rank == 0)

    def evaluate(data, communicator=None):
        iterator = SerialIterator(data, 5, repeat=False)
        return extensions.Evaluator(
            iterator, model, eval_func=model.calc_loss, communicator=communicator
        )()

    shared, expected = evaluate(part, comm), evaluate(data)
    assert shared.keys() == expected.keys()
    for key, value in expected.items():
        assert_allclose(shared[key], value, rtol=1e-6, err_msg=key)
    assert all(other == shared for other in comm.allgather_obj(shared))


def case_running_statistics_are_averaged(comm, folder):
    model = vdcore.Sequential(L.BatchNormalization(4), L.Linear(4, 3))
    constant = numpy.full(3, 0.1, dtype="f4")
    model.add_persistent("constant", constant.copy())
    link = model[0]

    def loss(x, t):
        return F.softmax_cross_entropy(model(x), t)

    part = scatter_dataset(make_dataset(24), comm)
    updater = parallel(comm, model, Adam(), batch=8, loss=loss)
    updater.update()
    own = comm.allgather_obj(link.avg_mean.copy())
    assert (own[0] != own[1]).any()
    iterator = SerialIterator(part, 8, repeat=False)
    extensions.Evaluator(iterator, model, eval_func=loss, communicator=comm)()
    assert_allclose(link.avg_mean, numpy.mean(own, axis=0), rtol=1e-5, atol=1e-7)
    assert_same_on_all_ranks(comm, [link.avg_mean, link.avg_var])
    assert_array_equal(model.constant, constant)


def with_nan(comm, model):
    """A loss that is not finite on the last rank in the third call."""
    calls = []

    def loss(x, t):
        calls.append(x)
        bad = comm.rank == comm.size - 1 and len(calls) == 3
        return model.calc_loss(x * numpy.nan if bad else x, t)

    return loss


def case_nan_on_one_rank_is_raised_on_all(comm, folder):
    model = Classifier()
    updater = parallel(comm, model, Adam(), loss=with_nan(comm, model))
    for _ in range(2):
        updater.update()
    before = [array.copy() for array in weights(model)]
    last = comm.size - 1
    text = rf"iteration 3: rank {last}: .*finite.* update: the loss is nan; this update"
    with pytest.raises(NonFiniteLossError, match=text) as caught:
        updater.update()
    assert ("rank 0" in str(caught.value)) == (comm.size == 1)
    for array, old in zip(weights(model), before, strict=True):
        assert_array_equal(array, old)


def case_nan_on_one_rank_is_skipped_on_all(comm, folder):
    model = Classifier()
    with model.init_scope():
        model.bn = L.BatchNormalization(4)
    loss = with_nan(comm, model)
    model.forward = lambda x: model.l2(F.relu(model.l1(model.bn(x))))
    updater = parallel(comm, model, Adam(), loss=loss, non_finite="skip")
    skipped = []
    for iteration in range(1, 6):
        before = [array.copy() for array in (*weights(model), model.bn.avg_var)]
        if iteration == 3:
            with pytest.warns(RuntimeWarning, match=f"skipped.*rank {comm.size - 1}: "):
                observation = observed_update(updater)
            after = [*weights(model), model.bn.avg_var]
            for array, old in zip(after, before, strict=True):
                assert_array_equal(array, old)
        else:
            observation = observed_update(updater)
        skipped.append(observation["skipped"])
    assert skipped == [0, 0, 1, 0, 0]
    assert updater.skipped == 1
    assert numpy.isfinite(model.bn.avg_var).all()
    assert_same_on_all_ranks(comm, weights(model))


class ConvolutionalClassifier(L.VariationalDropoutChain):
    """Everything that has a state of its own on each rank."""

    def __init__(self):
        super().__init__(num_examples=20, warm_up=0.1)
        with self.init_scope():
            self.bn = L.BatchNormalization(1)
            self.dropout = L.Dropout(0.2)
            self.l1 = L.VariationalDropoutLinear(16, 3)

    def forward(self, x):
        return self.l1(self.dropout(self.bn(x)))


def make_trainer(comm, folder, stop, device=None):
    vdcore.seed(11)
    model = ConvolutionalClassifier()
    images = numpy.random.default_rng(0).random((21, 1, 4, 4), dtype="f4")
    data = TupleDataset(images, numpy.arange(21) % 3)
    iterator = SerialIterator(
        scatter_dataset(data, comm, shuffle=True), 4, transform=RandomCropFlip(1)
    )
    optimizer = Adam(0.01).setup(model)
    updater = ParallelUpdater(
        iterator, optimizer, comm, device=device, loss_func=model.calc_loss
    )
    trainer = Trainer(updater, stop, out=folder)
    test = scatter_dataset(data, comm, force_equal_length=False)
    trainer.extend(
        extensions.Evaluator(
            SerialIterator(test, 5, repeat=False),
            model,
            device=device,
            eval_func=model.calc_loss,
            communicator=comm,
        )
    )
    trainer.extend(extensions.LinearShift("alpha", (0.01, 0.0), (0, 9)))
    trainer.extend(extensions.MaskFrom(model, 1))
    trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
    trainer.extend(extensions.PrintReport(["iteration", "main/loss"]))
    trainer.extend(
        extensions.snapshot_object(model, "best"),
        name="best",
        trigger=MinValueTrigger("main/loss", (2, "iteration")),
    )
    trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
    return trainer


def trainer_state(trainer):
    """All but times; of the extensions rank 0's alone counts."""
    writer = DictionarySerializer()
    trainer.serialize(writer)
    left_out = ("elapsed_time", "extensions/LogReport/log")
    if not trainer.is_main_rank:
        left_out = ("elapsed_time", "extension")
    return {k: v for k, v in writer.entries.items() if not k.startswith(left_out)}


def case_resumed_bit_for_bit(comm, folder, device=None):
    whole = make_trainer(comm, folder / "whole", (8, "iteration"), device)
    whole.run()
    first = make_trainer(comm, folder / "parts", (5, "iteration"), device)
    first.run()
    second = make_trainer(comm, folder / "parts", (8, "iteration"), device)
    load_npz(first.out / "snapshot_iter_5", second)
    second.run()
    states = [trainer_state(trainer) for trainer in (second, whole)]
    assert sorted(states[0]) == sorted(states[1])
    for name, expected in states[1].items():
        assert_array_equal(states[0][name], expected, err_msg=name)
    orders = [states[1][f"updater/rank:{r}/iterator:main/order"] for r in (0, 1)]
    assert (orders[0] != orders[1]).any()
    optimizer = whole.updater.get_optimizer()
    for arrays in optimizer.state.values():
        assert_same_on_all_ranks(comm, map(to_numpy, arrays.values()))
    assert_same_on_all_ranks(comm, [to_numpy(optimizer.target.bn.avg_var)])


def case_snapshots_of_other_numbers_of_processes(comm, folder):
    trainer = make_trainer(comm, folder, (1, "iteration"))
    trainer.run()
    comm.allgather_obj(None)  # rank 0 has written the file
    alone = create_communicator("mpi", mpi_comm=comm.mpi_comm.Split(comm.rank))
    assert (alone.rank, alone.size) == (0, 1)
    single = make_trainer(alone, folder / "alone", (2, "iteration"))
    text = rf"snapshot of a training by {comm.size} processes, this one is by 1; start"
    with pytest.raises(FileFormatError, match=text):
        load_npz(trainer.out / "snapshot_iter_1", single)
    model = ConvolutionalClassifier()
    load_npz(trainer.out / "snapshot_iter_1", model, prefix="updater/model:main/")
    assert_array_equal(
        model.l1.W.array, trainer.updater.get_optimizer().target.l1.W.array
    )
    entries = read_npz(trainer.out / "snapshot_iter_1")
    assert entries["updater/processes"] == comm.size


def case_only_rank_0_writes(comm, folder):
    own = folder / f"rank_{comm.rank}"
    trainer = make_trainer(comm, own, (4, "iteration"))
    trainer.run()
    names = {path.name for path in own.iterdir()}
    written = {"log", "best", *(f"snapshot_iter_{i}" for i in range(1, 5))}
    assert names == (set() if comm.rank else written)
    log = comm.bcast_obj(trainer.get_extension("LogReport").log)
    assert [row["iteration"] for row in log] == [2, 4]


def case_scattered_parts(comm, folder):
    data = numpy.arange(3 * comm.size + 1)
    for shuffle in (False, True):
        uneven = scatter_dataset(data, comm, shuffle=shuffle, force_equal_length=False)
        seen = numpy.concatenate(comm.allgather_obj(uneven.take(slice(None))[0]))
        assert_array_equal(numpy.sort(seen), data)
        even = scatter_dataset(data, comm, shuffle=shuffle, seed=4)
        assert len(even) == 4
        seen = numpy.concatenate(comm.allgather_obj(even.take(slice(None))[0]))
        assert set(seen) == set(data)
    with pytest.raises(ValueError, match=r"same on all ranks, got lengths \[4, 5"):
        scatter_dataset(data[: 4 + comm.rank], comm)
    with pytest.raises(ValueError, match=f"each of the {comm.size} processes, got 1"):
        scatter_dataset(data[:1], comm)


def case_arrays_that_are_not_on_the_host(comm, folder):
    xp = stand_in_namespace
    halves = numpy.full(3, comm.rank, dtype="f2")
    mean, of_double = comm.allreduce_mean(
        [xp.asarray([1.0, 2.0 + comm.rank]), xp.asarray(numpy.ones((2, 1)) * comm.rank)]
    )
    middle = (comm.size - 1) / 2
    assert_allclose(mean.get(), [1, 2 + middle])
    assert_allclose(of_double.get(), [[middle], [middle]])
    assert_allclose(comm.allreduce_mean([halves])[0], middle)
    assert comm.allreduce_mean([halves])[0].dtype == "f2"
    model = Classifier(L.Linear)
    for parameter in model.params():
        parameter.grad = numpy.full_like(parameter.array, comm.rank)
    model.l1.b.trainable = False
    comm.allreduce_grad(model)
    assert_allclose(model.l1.W.grad, middle)
    assert_array_equal(model.l1.b.grad, comm.rank)


def gpu_of(comm):
    import cupy

    return comm.intra_rank % count_gpus(cupy)


def count_gpus(cupy):
    return cupy.cuda.runtime.getDeviceCount()


def gpu_case_numbers_are_those_of_the_host(comm, folder):
    updaters = []
    for device in (gpu_of(comm), "cpu"):
        model = with_given_noise("f4", slice(comm.rank, None, comm.size))
        updaters.append(parallel(comm, model, Adam(0.01), device=device))
    for _ in range(5):
        reports, expected = map(observed_update, updaters)
        for key, value in expected.items():
            assert_allclose(to_numpy(reports[key]), value, rtol=1e-4, err_msg=key)
    on_gpu, on_host = (updater.get_optimizer().target for updater in updaters)
    for array, expected in zip(weights(on_gpu), weights(on_host), strict=True):
        assert_allclose(array.get(), expected, rtol=1e-4, atol=1e-5)
    assert_same_on_all_ranks(comm, map(to_numpy, weights(on_gpu)))


def gpu_case_nan_on_one_rank(comm, folder):
    model = Classifier()
    options = {"loss": with_nan(comm, model), "device": gpu_of(comm)}
    updater = parallel(comm, model, Adam(), **options)
    for _ in range(2):
        updater.update()
    before = [array.get() for array in weights(model)]
    text = rf"on rank {comm.size - 1}, by iteration 3: update: the loss was NaN or inf"
    with pytest.raises(NonFiniteLossError, match=text):  # at the end of the epoch
        updater.update()
    for array, old in zip(weights(model), before, strict=True):
        assert_array_equal(array.get(), old)


def gpu_case_nan_is_skipped(comm, folder):
    model = Classifier()
    options = {"loss": with_nan(comm, model), "device": gpu_of(comm)}
    updater = parallel(comm, model, Adam(), non_finite="skip", **options)
    with pytest.warns(
        RuntimeWarning, match=f"skipped.* on rank {comm.size - 1}, by it"
    ):
        skipped = [observed_update(updater)["skipped"] for _ in range(5)]
    assert skipped == [0, 0, 1, 0, 0]
    assert_same_on_all_ranks(comm, map(to_numpy, weights(model)))


def gpu_case_resumed_bit_for_bit(comm, folder):
    case_resumed_bit_for_bit(comm, folder, device=gpu_of(comm))


CASES = [name for name in list(globals()) if name.startswith("case_")]
GPU_CASES = [name for name in list(globals()) if name.startswith("gpu_case_")]


def run_cases(communicator_name, folder, *names):
    """Run cases on this rank; a failure ends all ranks."""
    comm = create_communicator(communicator_name)
    folder = Path(folder)
    for name in names:
        vdcore.seed(0)
        globals()[name](comm, folder / name)
        comm.allgather_obj(name)
        if comm.rank == 0:
            print(f"passed {name}", flush=True)


# Tests


@pytest.fixture(scope="module")
def output(mpiexec, tmp_path_factory):
    """What the cases printed."""
    return mpiexec(2, __file__, "mpi", tmp_path_factory.mktemp("cases"), *CASES)


@pytest.mark.parametrize("name", CASES)
def test_on_two_processes(output, name):
    assert f"passed {name}\n" in output.stdout, output.stdout + output.stderr


def test_on_three_processes(mpiexec, tmp_path):
    names = ("case_plain_network", "case_running_statistics_are_averaged")
    result = mpiexec(3, __file__, "mpi", tmp_path, *names)
    assert result.stdout.count("passed") == len(names), result.stderr


@pytest.mark.parametrize("communicator", ["mpi", "nccl"])
def test_on_gpus(mpiexec, cupy, tmp_path, communicator):
    emulated = not hasattr(cupy, "__file__")
    if communicator == "nccl" and not emulated and count_gpus(cupy) < 2:
        pytest.skip("NCCL needs two GPUs")
    result = mpiexec(
        *(2, __file__, communicator, tmp_path, *GPU_CASES),
        VDCORE_EMULATED_GPUS="2" if emulated else "",
    )
    assert result.stdout.count("passed") == len(GPU_CASES), result.stderr


FAILING = """
from vdcore.training import create_communicator
comm = create_communicator("mpi")
if comm.rank == 1:
    raise OSError("no data here")
comm.allgather_obj(1)
"""


def test_an_error_on_one_rank_ends_all(mpiexec):
    result = mpiexec(2, "-c", FAILING)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert "rank 1 fails, and all processes are ended:\nTraceback" in output
    assert "OSError: no data here" in output


ALONE = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from test_parallel_updater import *
comm = create_communicator("mpi")
assert (comm.rank, comm.size, comm.intra_rank) == (0, 1, 0)
updaters = []
for make in (parallel, single):
    vdcore.seed(3)
    updaters.append(make(comm, Classifier(), Adam()))
for _ in range(7):
    first, second = map(observed_update, updaters)
    assert first == second
models = [updater.get_optimizer().target for updater in updaters]
for p, q in zip(*map(weights, models), strict=True):
    assert_array_equal(p, q)
"""


def test_the_script_of_the_page(mpiexec, tmp_path):
    pytest.importorskip("sklearn", reason="the script's data set needs scikit-learn")
    page = Path(__file__).parents[2] / "docs/parallel.md"
    (script,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    result = mpiexec(2, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{script}")
    assert result.returncode == 0, result.stderr
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["epoch", "main/loss", "validation/main/accuracy"]
    assert [row.split()[0] for row in rows] == ["5", "10"]
    assert float(rows[1].split()[2]) > 0.8


def test_one_process_is_a_standard_updater(mpiexec):
    result = mpiexec(None, "-c", ALONE, __file__)
    assert result.returncode == 0, result.stderr


class TwoAlike(Communicator):
    """Two ranks of which the other one does what this one does."""

    rank, size, intra_rank = 0, 2, 0

    def allgather_obj(self, obj):
        return [obj, obj]

    def allreduce(self, x):
        return x + x

    def bcast(self, x, root=0):
        return x


def test_making_the_parameters_runs_no_step_of_a_recurrent_layer():
    rnn = L.TanhRNN(None, 4)
    data = TupleDataset(numpy.ones((4, 3), "f4"))
    updater = ParallelUpdater(
        SerialIterator(data, 4),
        MomentumSGD(0.0).setup(rnn),
        TwoAlike(),
        loss_func=lambda x: array_namespace(x).sum(rnn(x)),
    )
    updater.update()
    h = rnn.h
    rnn.reset_state()
    rnn(numpy.ones((4, 3), "f4"))
    assert_allclose(h, rnn.h, rtol=1e-6)


def test_communicators_that_cannot_be_had(monkeypatch):
    with pytest.raises(ValueError, match="one of 'mpi', 'nccl'; got 'naive'"):
        create_communicator("naive")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "vdcore.backends.mpi_backend", raising=False)
    text = (
        r"'mpi' needs mpi4py .*\. Run `pip install \"vdcore\[parallel\]\"`, and, on a"
    )
    with pytest.raises(RuntimeError, match=text):
        create_communicator()


if __name__ == "__main__":
    with ExitStack() as stack:
        if os.environ.get("VDCORE_EMULATED_GPUS"):
            from tests import emulated_cupy, emulated_nccl

            emulated_cupy.install()
            emulated_nccl.install()
            stack.enter_context(emulated_cupy.device_count(2))
        run_cases(*sys.argv[1:])
