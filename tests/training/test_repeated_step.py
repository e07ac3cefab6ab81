"""Steps that a GPU repeats: the same numbers as steps that Python does."""

from __future__ import annotations

import importlib

import numpy
import pytest

import vdcore
from tests import emulated_cupy
from vdcore import functions as F
from vdcore import initializers, iterators, optimizers, training
from vdcore import links as L
from vdcore.arrays import to_numpy
from vdcore.datasets import RandomCropFlip, TupleDataset
from vdcore.reporter import Reporter
from vdcore.serializers import load_npz, save_npz
from vdcore.training import extensions

from ..conftest import HAS_GPU, make_library

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def cupy():
    """The library, or a skip."""
    return make_library("cupy").xp


class Net(L.VariationalDropoutChain):
    """A layer of each kind that keeps numbers of its own."""

    def __init__(self):
        super().__init__(num_examples=40, warm_up=0.01)
        normal = initializers.Normal(0.3)
        with self.init_scope():
            self.conv = L.VariationalDropoutConvolution2D(1, 4, 3, initialW=normal)
            self.norm = L.BatchNormalization(4)
            self.drop = L.Dropout(0.3)
            self.fc = L.VariationalDropoutLinear(None, 3, initialW=normal)

    def forward(self, x):
        return self.fc(self.drop(F.relu(self.norm(self.conv(x)))))


def dataset():
    rng = numpy.random.default_rng(5)
    x = rng.standard_normal((40, 1, 6, 6)).astype(numpy.float32)
    return TupleDataset(x, rng.integers(0, 3, 40).astype(numpy.int32))


def make_updater(device=0, graph=False, transform=None, optimizer=None, data=None):
    vdcore.seed(3)
    model = Net()
    optimizer = optimizer or optimizers.Adam(0.01)
    optimizer.setup(model)
    data = dataset().to_device(device) if data is None else data
    if transform is not None:
        transform = RandomCropFlip(1)
    iterator = iterators.SerialIterator(data, 8, transform=transform)
    updater = training.StandardUpdater(
        iterator, optimizer, device=device, loss_func=model.calc_loss, graph=graph
    )
    return updater, model


def state(updater):
    """Parameters, moments, statistics and counts."""
    values = {}

    class Writer:
        is_writer = True

        def __init__(self, path=""):
            self.path = path

        def __getitem__(self, key):
            return Writer(f"{self.path}/{key}")

        def __call__(self, key, value):
            values[f"{self.path}/{key}"] = value
            return value

    updater.serialize(Writer())
    return values


def assert_same(one, other, rtol=0.0):
    one, other = state(one), state(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        if hasattr(value, "dtype"):
            numpy.testing.assert_allclose(
                to_numpy(value), to_numpy(other[key]), rtol=rtol, atol=rtol, err_msg=key
            )
        else:
            assert str(value) == str(other[key]), key


@pytest.mark.parametrize("transform", [None, True], ids=["", "transform"])
@pytest.mark.parametrize(
    "rule",
    [
        lambda: optimizers.Adam(0.01),
        lambda: optimizers.MomentumSGD(0.01),
        lambda: optimizers.AdaDelta(),
    ],
    ids=["Adam", "MomentumSGD", "AdaDelta"],
)
def test_a_graph_changes_no_number(rule, transform):
    """13 batches of 8 of 40: two borders of epochs, the KL warming up."""
    updaters = []
    for graph in (False, True):
        options = {"transform": transform, "optimizer": rule()}
        updaters.append(make_updater(graph=graph, **options)[0])
        for _ in range(13):
            updaters[-1].update()  # the first makes the last layer's weights
    assert_same(*updaters)


def test_reports_are_those_of_each_step():
    entries = []
    for graph in (False, True):
        updater, model = make_updater(graph=graph)
        reporter = Reporter()
        reporter.add_observer("main", model)
        seen = []
        for _ in range(6):
            observation = {}
            with reporter.scope(observation):
                updater.update()
            seen.append({k: float(v) for k, v in observation.items()})
        entries.append(seen)
    for eager, repeated in zip(*entries, strict=True):
        assert eager == pytest.approx(repeated, rel=1e-7)  # kl_coef is in float32
    losses = [entry["main/loss"] for entry in entries[1]]
    assert len(set(losses)) == 6
    coefficients = [entry["main/kl_coef"] for entry in entries[1]]
    numpy.testing.assert_allclose(coefficients, 0.01 * numpy.arange(6), rtol=1e-6)


def test_noise_differs_from_repetition_to_repetition():
    """The same batch and, with a step size of 0, the same weights."""
    data = dataset().to_device(0)[:8]
    updater, model = make_updater(graph=True, optimizer=optimizers.Adam(0), data=data)
    model.warm_up = 0
    model.drop.ratio = 0.0
    reporter = Reporter()
    reporter.add_observer("main", model)
    losses = []
    for _ in range(5):
        observation = {}
        with reporter.scope(observation):
            updater.update()
        losses.append(float(observation["main/class"]))
    assert len(set(losses)) == 5
    assert numpy.std(losses) < 0.1 * numpy.mean(losses)


def test_what_a_step_would_repeat_as_it_was_makes_it_be_recorded_anew():
    updaters = []
    for graph in (False, True):
        updater, model = make_updater(graph=graph)
        for iteration in range(12):
            if iteration == 4:
                model.set_mask_in_training(True)
            if iteration == 7:
                model.set_noise_trainable(False)
            if iteration == 9:
                updater.get_optimizer().alpha = 0.003
            updater.update()
        updaters.append(updater)
    assert_same(*updaters)


def test_a_loaded_snapshot_is_gone_on_from(tmp_path):
    """Arrays lie elsewhere then."""
    once, _ = make_updater(graph=True)
    for _ in range(4):
        once.update()
    save_npz(tmp_path / "snapshot", once)
    for _ in range(4):
        once.update()
    again, _ = make_updater(graph=True)
    for _ in range(3):
        again.update()
    load_npz(tmp_path / "snapshot", again)
    for _ in range(4):
        again.update()
    assert_same(once, again)


@pytest.mark.parametrize(("first", "then"), [(0, "cpu"), ("cpu", 0)])
def test_a_snapshot_of_one_device_is_loaded_on_another(tmp_path, first, then):
    updaters = [make_updater(device)[0] for device in (first, then)]
    updaters[0].update()
    save_npz(tmp_path / "snapshot", updaters[0])
    load_npz(tmp_path / "snapshot", updaters[1])
    assert_same(*updaters)
    for updater in updaters:
        updater.update()  # each with its own draws, but they do go on
        updater.check_finite()


def test_extensions_change_what_is_live():
    updaters = []
    for graph in (False, True):
        updater, model = make_updater(graph=graph)
        model.warm_up = 0
        trainer = training.Trainer(updater, (10, "iteration"), out="unused")
        trainer.extend(extensions.LinearShift("alpha", (0.01, 0), (0, 10)))
        trainer.extend(extensions.KLWarmUp(model, 0, 8, "iteration"))
        trainer.run()
        updaters.append(updater)
    assert_same(*updaters)


def test_data_of_the_host_cannot_be_part_of_a_graph():
    updater, _ = make_updater(graph=True, data=dataset())
    updater.update()
    with pytest.raises(RuntimeError, match=r"put the data set on the GPU"):
        updater.update()


def test_a_model_on_the_cpu_has_no_graph():
    updater, _ = make_updater("cpu", graph=True)
    updater.update()
    with pytest.raises(RuntimeError, match="needs a model on a GPU"):
        updater.update()


def test_skipping_and_graphs_do_not_go_together():
    model = Net()
    with pytest.raises(ValueError, match="looks at each loss on the host"):
        training.StandardUpdater(
            iterators.SerialIterator(dataset(), 8),
            optimizers.Adam().setup(model),
            non_finite="skip",
            graph=True,
        )


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("rule", [optimizers.Adam, optimizers.SGD])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_found(rule, graph):
    updater, model = make_updater(graph=graph, optimizer=rule(0.01))
    for _ in range(3):
        updater.update()
    (x, _) = updater.get_iterator().dataset.arrays
    before = {path: to_numpy(p.array) for path, p in model.namedparams()}
    x[...] = numpy.inf
    updater.update()
    with pytest.raises(vdcore.optimizers.NonFiniteLossError, match="by iteration 5: "):
        updater.update()  # the fifth ends an epoch
    for path, parameter in model.namedparams():
        numpy.testing.assert_array_equal(to_numpy(parameter.array), before[path])
    assert updater.get_optimizer().t == 3


@pytest.mark.skipif(HAS_GPU, reason="the emulated CuPy counts transfers")
@pytest.mark.parametrize("graph", [False, True])
def test_no_step_waits_for_the_gpu(graph):
    updater, _ = make_updater(graph=graph, transform=True)
    for _ in range(6):
        updater.update()
    with emulated_cupy.transfers() as counts:
        for _ in range(3):  # within an epoch
            updater.update()
    assert counts.to_host == counts.synchronizations == 0
    assert counts.to_device == (3 if graph else 12)  # indices, offsets


@pytest.mark.skipif(HAS_GPU, reason="the emulated CuPy has as much memory as one likes")
def test_too_large_a_batch_is_named():
    updater, _ = make_updater()
    with emulated_cupy.memory_limit(2**15):
        importlib.import_module("cupy").get_default_memory_pool().free_all_blocks()
        with pytest.raises(MemoryError, match="a batch of 8 examples; take a smaller"):
            updater.update()
