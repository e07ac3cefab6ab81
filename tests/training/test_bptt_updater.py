"""Truncated backpropagation through time, on a recurrence small enough to check."""

from __future__ import annotations

import math

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vdcore
from vdcore import functions as F
from vdcore import initializers, optimizers
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy
from vdcore.datasets import TupleDataset
from vdcore.iterators import ParallelSequentialIterator, SerialIterator
from vdcore.optimizers import NonFiniteLossError
from vdcore.serializers import load_npz, save_npz
from vdcore.training import BPTTUpdater, StandardUpdater, Trainer, extensions
from vdcore.training.recurrent_state import RecurrentState

from ..conftest import make_library

TOKENS, STREAMS, LENGTH = 5, 2, 3


def text(size=40):
    return numpy.random.default_rng(1).integers(0, TOKENS, size).astype(numpy.int32)


class TanhRecurrence(vdcore.Chain):
    """``h' = tanh(W [x, h])``, over a sequence; its last state is kept."""

    state_names = ("h",)

    def __init__(self, units):
        super().__init__()
        self.units = units
        with self.init_scope():
            self.l = L.VariationalDropoutLinear(
                TOKENS + units, units, initialW=initializers.Normal(0.5)
            )
        self.reset_state()

    def reset_state(self):
        self.h = None

    def forward(self, xs):
        xp = array_namespace(xs)
        h = xp.zeros((xs.shape[1], self.units), dtype=xs.dtype)
        h, steps = h if self.h is None else self.h, []
        for t in range(xs.shape[0]):
            h = F.tanh(self.l(F.concat([xs[t, ...], h], axis=1)))
            steps.append(h)
        self.h = h
        return F.concat(steps, axis=0)


class LanguageModel(L.VariationalDropoutChain):
    def __init__(self, units=4):
        super().__init__(num_examples=40, warm_up=0.01)
        with self.init_scope():
            self.rnn = TanhRecurrence(units)
            self.out = L.Linear(units, TOKENS)
        self.calls = []  # no number, which a recorded step would depend on

    def forward(self, tokens):
        xp = array_namespace(tokens)
        onehot = xp.eye(TOKENS, dtype=xp.float32)
        xs = xp.take(onehot, xp.reshape(tokens, (-1,)), axis=0)
        return self.out(self.rnn(xp.reshape(xs, (*tokens.shape, TOKENS))))

    def calc_loss(self, x, t, **options):
        self.calls.append(x.shape)
        xp = array_namespace(t)
        return super().calc_loss(x, xp.reshape(t, (-1,)), **options)


def make(lr=0.1, device=None, data=None, **options):
    vdcore.seed(4)
    model = LanguageModel()
    data = text() if data is None else data
    iterator = ParallelSequentialIterator(data, STREAMS, length=LENGTH)
    optimizer = optimizers.Adam(lr).setup(model)
    optimizer.add_hook(optimizers.GradientClipping(0.5))
    options = {"loss_func": model.calc_loss, "device": device} | options
    return BPTTUpdater(iterator, optimizer, **options), model


def run_over(model, data, steps):
    """State after so many steps of both streams, from a fresh one."""
    iterator = ParallelSequentialIterator(data, STREAMS, length=steps)
    model.rnn.reset_state()
    with vdcore.using_config("train", False):
        model(next(iterator)[0])
    return model.rnn.h


def test_the_state_is_carried_from_window_to_window():
    updater, model = make(lr=0.0)
    model.rnn.l.log_sigma2.array -= 100  # no noise, but for a bit of rounding
    for windows in (1, 2, 3):
        updater.update()
        assert updater.epoch_detail == windows * STREAMS * LENGTH / 40
    carried = model.rnn.h
    assert_allclose(carried, run_over(model, text(), 3 * LENGTH), atol=1e-3)


@pytest.mark.parametrize("reset", [True, False, None])
def test_an_epoch_begins_with_no_state(reset):
    updater, model = make(
        lr=0.0, **({} if reset is None else {"reset_each_epoch": reset})
    )
    model.rnn.l.log_sigma2.array -= 100
    while not updater.is_new_epoch:
        updater.update()
    windows = -(-40 // (STREAMS * LENGTH))
    assert updater.iteration == windows
    updater.update()
    # Each stream goes on with the text of the next one.
    streams = text().reshape(STREAMS, -1)
    streams = numpy.concatenate([streams, streams[::-1]], axis=1)
    end = (windows + 1) * LENGTH
    states = []
    for start in (0, windows * LENGTH):  # Chainer's way; from no state
        other = model.copy()
        other.rnn.reset_state()
        with vdcore.using_config("train", False):
            other(streams[:, start:end].T)
        states.append(other.rnn.h)
    carried, fresh = states
    assert abs(carried - fresh).max() > 0.01
    expected = carried if reset is False else fresh
    assert_allclose(model.rnn.h, expected, atol=1e-3)


def test_the_loss_is_called_once_a_window():
    """And so the KL is added once, and its coefficient grows once."""
    updater, model = make()
    for _ in range(3):
        updater.update()
    assert model.calls == [(LENGTH, STREAMS)] * 3
    assert model.kl_coef == pytest.approx(0.03)
    assert updater.get_optimizer().t == 3


def test_an_iteration_reports_the_norm_of_its_gradients():
    updater, _ = make()
    trainer = Trainer(updater, (3, "iteration"))
    trainer.run()
    observation = trainer.observation
    assert observation["main/grad_norm"] > 0
    assert observation["main/clipped"] == (observation["main/grad_norm"] > 0.5)


class Failing:
    """A loss that is NaN at one of its calls, after the states have changed."""

    def __init__(self, model, call):
        self.model, self.call, self.count = model, call, 0

    def __call__(self, x, t):
        self.count += 1
        loss = self.model.calc_loss(x, t)
        return loss * math.nan if self.count == self.call else loss


def test_a_skipped_window_leaves_the_states_as_they_were():
    updater, model = make(non_finite="skip")
    updater.loss_func = Failing(model, 2)
    updater.update()
    before = model.rnn.h
    with pytest.warns(RuntimeWarning, match="the batch is skipped"):
        updater.update()
    assert_array_equal(model.rnn.h, before)
    updater.update()
    assert updater.skipped == 1
    assert (model.rnn.h != before).any()


def test_an_error_is_looked_for_from_the_state_before():
    updater, model = make()
    updater.update()
    before = model.rnn.h
    updater.loss_func = failing = Failing(model, 1)
    seen, calc_loss = [], model.calc_loss

    def looking(x, t):
        seen.append(model.rnn.h)
        return calc_loss(x, t)

    model.calc_loss = looking
    with pytest.raises(NonFiniteLossError, match="iteration 2"):
        updater.update()
    assert failing.count == 2
    assert seen[0] is seen[1] is before


def test_a_model_without_a_state_is_refused():
    model = L.Linear(2, 2)
    iterator = ParallelSequentialIterator(text(), 2, length=2)
    with pytest.raises(TypeError, match=r"Linear has none; use StandardUpdater"):
        BPTTUpdater(iterator, optimizers.SGD().setup(model))


def test_an_evaluation_begins_anew_and_leaves_the_states_of_training():
    updater, model = make()
    updater.update()
    state = model.rnn.h
    iterator = ParallelSequentialIterator(text(), STREAMS, False, length=LENGTH)
    evaluator = extensions.Evaluator(iterator, model, eval_func=model.calc_loss)
    first = evaluator()
    assert model.rnn.h is state
    assert evaluator() == first
    model.rnn.reset_state()
    with vdcore.using_config("train", False):
        x, t = (
            a[:19, :] for a in next(ParallelSequentialIterator(text(), 2, length=19))
        )
        whole = float(F.softmax_cross_entropy(model(x), t.reshape(-1)))
    assert first["main/class"] == pytest.approx(whole, rel=1e-5)


def test_an_eval_hook_that_resets_as_in_chainer():
    updater, model = make()
    updater.update()
    state = model.rnn.h
    iterator = ParallelSequentialIterator(text(), STREAMS, False, length=LENGTH)
    evaluator = extensions.Evaluator(
        iterator,
        model,
        eval_func=model.calc_loss,
        eval_hook=lambda e: e.target.rnn.reset_state(),
    )
    evaluator()
    assert model.rnn.h is state


def test_an_error_in_an_evaluation_leaves_the_states_of_training():
    updater, model = make()
    updater.update()
    state = model.rnn.h

    def broken(x, t):
        model(x)
        raise KeyboardInterrupt

    iterator = ParallelSequentialIterator(text(), STREAMS, False, length=LENGTH)
    with pytest.raises(KeyboardInterrupt):
        extensions.Evaluator(iterator, model, eval_func=broken)()
    assert model.rnn.h is state


def test_models_without_a_state_are_evaluated_as_before():
    data = TupleDataset(numpy.ones((4, 2), "f4"), numpy.zeros(4, "i4"))
    model = L.Linear(2, 3)
    assert RecurrentState(model)._states == []
    seen = []
    iterator = SerialIterator(data, 2, repeat=False)
    extensions.Evaluator(iterator, model, eval_func=lambda *x: seen.append(x))()
    assert len(seen) == 2
    StandardUpdater(
        SerialIterator(data, 2),
        optimizers.SGD().setup(model),
        loss_func=lambda x, t: F.softmax_cross_entropy(model(x), t),
    ).update()


def trained(path, resume=None):
    updater, model = make()
    trainer = Trainer(updater, (9, "iteration"), out=path)
    iterator = ParallelSequentialIterator(text(), STREAMS, False, length=LENGTH)
    trainer.extend(
        extensions.Evaluator(iterator, model, eval_func=model.calc_loss),
        trigger=(2, "iteration"),
    )
    trainer.extend(extensions.snapshot(), trigger=(5, "iteration"))
    if resume:
        load_npz(resume, trainer)
    trainer.run()
    save_npz(path / "model.npz", model)
    return dict(numpy.load(path / "model.npz")), model.rnn.h


def test_a_run_resumes_bit_for_bit(tmp_path):
    once, state = trained(tmp_path / "once")
    snapshot = tmp_path / "once" / "snapshot_iter_5"
    twice, other_state = trained(tmp_path / "twice", snapshot)
    assert once.keys() == twice.keys()
    for name, array in once.items():
        assert_array_equal(array, twice[name], err_msg=name)
    assert_array_equal(state, other_state)


@pytest.mark.gpu
def test_a_graph_changes_no_number():
    """Evaluations between the steps included."""
    cupy = make_library("cupy").xp
    results = []
    for graph in (False, True):
        updater, model = make(device=0, data=cupy.asarray(text()), graph=graph)
        iterator = ParallelSequentialIterator(cupy.asarray(text()), 2, False, length=9)
        evaluator = extensions.Evaluator(
            iterator, model, device=0, eval_func=model.calc_loss
        )
        places = set()
        for k in range(8):
            updater.update()
            if graph:
                places.add(model.rnn.h.data.ptr)
            if k == 5:
                evaluator()
        assert len(places) == 1 or not graph
        results.append([*(p.array for p in model.params()), model.rnn.h])
        assert model.calls.count((LENGTH, STREAMS)) == (2 if graph else 8)
    for eager, repeated in zip(*results, strict=True):
        assert_array_equal(to_numpy(eager), to_numpy(repeated))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"main/loss": 2.0}, {"perplexity": math.exp(2)}),
        (
            {"main/loss": 9.0, "main/class": 2.0, "validation/main/class": 3.0},
            {"perplexity": math.exp(2), "val_perplexity": math.exp(3)},
        ),
        ({"validation/main/loss": 1e4}, {"val_perplexity": math.inf}),
        ({"main/loss": math.nan}, {"perplexity": pytest.approx(math.nan, nan_ok=True)}),
        ({"epoch": 1}, {}),
    ],
)
def test_perplexity(entry, expected):
    before = dict(entry)
    extensions.compute_perplexity(entry)
    assert entry == pytest.approx(before | expected, nan_ok=True)


def test_a_log_has_perplexities(tmp_path):
    updater, _ = make()
    trainer = Trainer(updater, (2, "epoch"), out=tmp_path)
    report = extensions.LogReport(postprocess=extensions.compute_perplexity)
    trainer.extend(report)
    trainer.run()
    assert len(report.log) == 2
    for row in report.log:
        assert row["perplexity"] == pytest.approx(math.exp(row["main/class"]))
