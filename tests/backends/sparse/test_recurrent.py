from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from vdcore import Chain, Parameter, initializers, using_config
from vdcore import functions as F
from vdcore import links as L
from vdcore.backends import sparse_backend
from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse.layer import pruned_layer
from vdcore.backends.sparse_backend import (
    Flatten,
    Recurrent,
    SparseModel,
    SparseRecurrentModel,
    to_cpu_sparse,
)
from vdcore.files import FileFormatError
from vdcore.inspection import DenseModel

ROOT = Path(__file__).resolve().parents[3]
WORDS = 37
f4 = numpy.float32

needs_numba = pytest.mark.skipif(
    numba_or_none() is None, reason="numba is not installed"
)


@pytest.fixture(params=[pytest.param("compiled", marks=needs_numba), "csr"])
def runtime(request, monkeypatch):
    if request.param == "csr":
        monkeypatch.setenv("VDCORE_NUMBA", "0")
    return request.param


class LanguageModel(L.VariationalDropoutChain):
    """Embedding, recurrent layers and scores, all variational."""

    def __init__(self, cell=L.LSTM, sizes=(13, 11, 9), words=WORDS, **options):
        super().__init__(num_examples=10)
        with self.init_scope():
            self.embed = L.EmbedID(words, sizes[0])
            self.dropout = L.Dropout(0.5)
            for k in range(1, len(sizes)):
                setattr(self, f"l{k}", cell(sizes[k - 1], sizes[k]))
            self.scores = L.Linear(sizes[-1], words)
        self.recurrent = [self[f"l{k}"] for k in range(1, len(sizes))]
        self.to_variational_dropout(**options)
        self.recurrent = [self[f"l{k}"] for k in range(1, len(sizes))]

    def reset_state(self):
        for link in self.recurrent:
            link.reset_state()

    def forward(self, ids):
        h = self.dropout(self.embed(ids))
        for link in self.recurrent:
            h = self.dropout(link(h))
        return self.scores(F.rows(h))


def prune(model, rng, density):
    """Random weights of which a share is kept; biases too."""
    for _, link in model.variational_links():
        shape = link.W.array.shape
        link.W.array = rng.standard_normal(shape, dtype=f4) / f4(shape[-1] ** 0.5)
        noise = rng.random(shape) >= density
        link.log_sigma2.array = numpy.where(noise, f4(9), f4(-20))
        if link.b is not None:
            link.b.array = rng.standard_normal(len(link.b.array), dtype=f4)
    return model


def empty(link):
    """Prune all weights of a layer."""
    link.log_sigma2.array = numpy.full_like(link.log_sigma2.array, 9)


def outputs(model, ids):
    """Scores of the masked network, which continues from its state.

    It runs as it was imported: only the sparse model is to do without numba.
    """
    with using_config("train", False), pytest.MonkeyPatch.context() as patch:
        patch.delenv("VDCORE_NUMBA", raising=False)
        return numpy.asarray(model(ids)).reshape(*ids.shape, -1)


def check(model, rng, batch=3, time=7, atol=1e-5):
    """Sequence and steps of the sparse model against the masked network."""
    sparse = to_cpu_sparse(model)
    model.reset_state()
    for _ in range(2):  # the second goes on from the first
        ids = rng.integers(0, WORDS, (time, batch))
        before = sparse.state
        expected = outputs(model, ids)
        y = sparse.predict(ids)
        assert y.dtype == f4
        assert y.shape == expected.shape
        numpy.testing.assert_allclose(y, expected, atol=atol)
        after = sparse.state
        if before:
            sparse.state = before
        else:
            sparse.reset_state(batch)
        steps = numpy.stack([sparse.step(row) for row in ids])
        numpy.testing.assert_allclose(steps, expected, atol=atol)
        for name, array in sparse.state.items():
            numpy.testing.assert_allclose(array, after[name], atol=atol)
    return sparse


# The answers


@pytest.mark.parametrize("batch", [1, 2, 3, 17])
@pytest.mark.parametrize("density", [0.08, 0.5, 1])
@pytest.mark.parametrize("cell", [L.LSTM, L.StatefulGRU, L.TanhRNN])
def test_answers_of_the_masked_network(runtime, rng, cell, density, batch):
    check(prune(LanguageModel(cell), rng, density), rng, batch)


@pytest.mark.parametrize("sizes", [(1, 1), (5, 16), (16, 33, 1), (8, 8, 8, 8)])
def test_any_number_of_units_and_layers(runtime, rng, sizes):
    check(prune(LanguageModel(sizes=sizes), rng, 0.3), rng)


@pytest.mark.parametrize("batch", [1, 3])
def test_many_steps(runtime, rng, batch):
    check(prune(LanguageModel(), rng, 0.3), rng, batch, time=300)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "emptied",
    [
        ("/embed",),
        ("/l1/upward",),
        ("/l1/lateral",),
        ("/l1/upward", "/l1/lateral"),
        ("/l2/upward", "/l2/lateral"),
        ("/scores",),
        ("/embed", "/l1/upward", "/l1/lateral", "/l2/upward", "/l2/lateral", "/scores"),
    ],
)
def test_layers_without_weights_left(runtime, rng, emptied, batch):
    model = prune(LanguageModel(), rng, 0.4)
    for path, link in model.variational_links():
        if path in emptied:
            empty(link)
    check(model, rng, batch)


def test_words_without_weights_left(runtime, rng):
    model = prune(LanguageModel(), rng, 0.4)
    model.embed.log_sigma2.array[::2] = 9
    sparse = check(model, rng)
    assert not numpy.diff(sparse.shrunk[0].W.indptr)[::2].any()


@pytest.mark.parametrize("batch", [1, 3])
def test_rows_of_many_and_of_few_weights(runtime, rng, batch):
    model = prune(LanguageModel(sizes=(40, 40)), rng, 0.05)
    for _, link in model.variational_links():
        link.log_sigma2.array[::3] = -20
        link.log_sigma2.array[1::3] = 9
    check(model, rng, batch)


@pytest.mark.parametrize("form", ["dense", "csr"])
def test_formats_that_are_asked_for(rng, form):
    model = prune(LanguageModel(), rng, 0.3)
    ids = rng.integers(0, WORDS, (5, 1))
    sparse = model.to_cpu_sparse(formats=form)
    assert set(sparse.formats) == {form}
    numpy.testing.assert_allclose(sparse.predict(ids), outputs(model, ids), atol=1e-5)


@needs_numba
def test_large_products_are_shared_by_threads(rng, monkeypatch):
    from vdcore.backends.sparse import recurrent_program

    monkeypatch.setattr(recurrent_program, "PARALLEL_FROM", 1)
    model = prune(LanguageModel(), rng, 0.3)
    ids = rng.integers(0, WORDS, (20, 1))
    sparse = model.to_cpu_sparse(threads=3)
    y = numpy.stack([sparse.step(row) for row in ids])
    numpy.testing.assert_allclose(y, outputs(model, ids), atol=1e-5)


def test_plain_links_activations_and_softmax(runtime, rng):
    class Plain(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.embed = L.EmbedID(WORDS, 6)
                self.l1 = L.Linear(6, 5)
                self.l2 = L.LSTM(5, 7)
                self.l3 = L.Linear(7, 4)

        def forward(self, ids):
            h = F.tanh(self.l1(F.tanh(self.embed(ids))))
            return F.softmax(self.l3(F.relu(self.l2(h))))

    model = Plain()
    sparse = to_cpu_sparse(model)
    for _ in range(5):
        ids = rng.integers(0, WORDS, 3)
        y = sparse.step(ids)
        numpy.testing.assert_allclose(y, outputs(model, ids), atol=1e-6)
        numpy.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 4])
def test_sequences_of_vectors(runtime, rng, batch):
    class Tagger(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.rnn = L.StatefulGRU(5, 8)
                self.out = L.Linear(8, 3)

        def forward(self, x):
            return self.out(F.rows(self.rnn(x)))

    model = Tagger()
    sparse = to_cpu_sparse(model)
    x = rng.standard_normal((6, batch, 5), dtype=f4)
    with using_config("train", False):
        expected = numpy.asarray(model(x)).reshape(6, batch, 3)
    numpy.testing.assert_allclose(sparse.predict(x), expected, atol=1e-6)
    sparse.reset_state(batch)
    y = numpy.stack([sparse.step(each) for each in x])
    numpy.testing.assert_allclose(y, expected, atol=1e-6)


def test_chain_that_ends_with_a_recurrent_layer(runtime, rng):
    model = prune(LanguageModel(), rng, 0.2)
    model.forward = lambda ids: model.l2(model.l1(model.embed(ids)))
    sparse = check(model, rng)
    assert sparse.out_size == 9


class OneHotModel(L.VariationalDropoutChain):
    def __init__(self, **options):
        super().__init__(num_examples=10)
        with self.init_scope():
            self.l1 = L.OneHotLSTM(WORDS, 9)
            self.l2 = L.Linear(9, WORDS)
        self.to_variational_dropout(**options)

    def reset_state(self):
        self.l1.reset_state()

    def forward(self, ids):
        return self.l2(F.rows(self.l1(ids)))


@pytest.mark.parametrize("batch", [1, 3])
def test_links_that_say_what_they_are_the_same_as(runtime, rng, batch):
    model = prune(OneHotModel(), rng, 0.2)
    sparse = check(model, rng, batch)
    assert [layer.name for layer in sparse.layers] == ["l1/upward", "l1", "l2"]
    # The input of the gates is the embedding itself: there are no weights between.
    weights = sum(link.W.array.size for _, link in model.variational_links())
    kept = sum(int(link.keep_mask().sum()) for _, link in model.variational_links())
    assert sum(layer.size for layer in sparse.layers) == weights
    assert sum(layer.kept for layer in sparse.layers) == kept
    assert sparse.summary().count("l1/upward ") == 1


# Multipliers of groups

GROUPS = ("words", "units", "gates")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", [L.LSTM, L.StatefulGRU, L.TanhRNN, "one-hot"])
def test_multipliers_go_into_the_weights(runtime, rng, cell, batch):
    options = {"multipliers": GROUPS}
    one_hot = cell == "one-hot"
    model = OneHotModel(**options) if one_hot else LanguageModel(cell, **options)
    prune(model, rng, 0.4)
    for path, link in model.variational_links():
        if not link.is_weighted:
            share = 0.9 if "gate" in path else 0.6
            noise = rng.random(link.size) >= share
            link.log_sigma2.array = numpy.where(noise, f4(9), f4(-20))
            link.W.array = rng.uniform(0.5, 1.5, link.size).astype(f4)
    sparse = check(model, rng, batch)
    last = model.l1 if one_hot else model.l2
    counted = {(group.name, group.kind): group for group in sparse.groups}
    words = counted["l1/upward" if one_hot else "embed", "words"]
    scale = (model.l1.upward if one_hot else model.embed).word_scale
    assert words.total == WORDS
    assert words.kept <= scale.keep_mask().sum() < WORDS
    units = counted[last.name, "units"]
    assert units.kept <= last.unit_scale.keep_mask().sum() < units.total == 9
    assert sparse.weights_left <= model.size().weights_kept
    assert sparse.weight_ratio == sparse.weights / sparse.weights_left
    assert str(units) in sparse.summary()


def test_groups_by_hand(rng):
    """Of three units one is read; it has two gates with weights, and reads one word."""
    model = prune(LanguageModel(sizes=(4, 3), words=5, multipliers=GROUPS), rng, 0)
    kept = {
        "embed": [(0, 2), (3, 1)],
        "l1/upward": [(1, 2), (3 * 3 + 1, 2), (2, 0)],
        "l1/lateral": [(3 + 1, 1)],
        "scores": [(0, 1), (4, 1)],
    }
    links = {path.strip("/"): link for path, link in model.variational_links()}
    for name, places in kept.items():
        for place in places:
            links[name].log_sigma2.array[place] = -20
    for name in ("embed/word_scale", "l1/unit_scale", "l1/gate_scale"):
        links[name].log_sigma2.array[:] = -20
    links["l1/gate_scale"].log_sigma2.array[3 * 3 + 1] = 9  # the output gate's
    sparse = model.to_cpu_sparse()
    assert [tuple(group) for group in sparse.groups] == [
        ("embed", "words", 1, 5),
        ("l1", "units", 1, 3),
        ("l1", "gates", 2, 12),
    ]
    # A word's, one upward, one lateral, two of the scores.
    assert (sparse.weights_left, sparse.weights) == (5, 20 + 48 + 36 + 15)


# What is left out


def test_units_that_nothing_reads_vanish(runtime, rng):
    model = prune(LanguageModel(), rng, 1)
    keep = numpy.arange(11) < 4
    # Units 4 .. 10 of the first layer are read by each other alone.
    model.l2.upward.log_sigma2.array[:, ~keep] = 9
    model.l1.lateral.log_sigma2.array[numpy.ix_(numpy.tile(keep, 4), ~keep)] = 9
    model.l1.upward.log_sigma2.array[numpy.tile(keep, 4), :3] = 9
    sparse = check(model, rng)
    embedding, first, second, _ = sparse.shrunk
    assert embedding.W.shape == (WORDS, 10)
    assert first.upward.W.shape == (16, 10)
    assert first.lateral.W.shape == (16, 4)
    assert second.upward.W.shape == (36, 4)
    h = sparse.state["l1/h"]
    assert h.shape == (3, 11)
    assert h[:, keep].all()
    assert not h[:, ~keep].any()


def test_unit_that_a_staying_unit_reads_stays(rng):
    model = prune(LanguageModel(), rng, 1)
    model.l2.upward.log_sigma2.array[:, 1:] = 9  # the next layer reads unit 0 alone,
    lateral = numpy.full((11, 11), 9, f4)
    lateral[0, 5] = lateral[5, 7] = -20  # which reads 5, which reads 7
    model.l1.lateral.log_sigma2.array = numpy.tile(lateral, (4, 1))
    sparse = check(model, rng)
    assert sparse.shrunk[1].units == 3


# State


def test_state_can_be_read_and_set(runtime, rng):
    sparse = prune(LanguageModel(), rng, 0.5).to_cpu_sparse()
    assert sparse.state == {}
    zeros = sparse.reset_state()
    shapes = {name: array.shape for name, array in zeros.items()}
    assert shapes == dict.fromkeys(("l1/h", "l1/c"), (1, 11)) | dict.fromkeys(
        ("l2/h", "l2/c"), (1, 9)
    )
    assert not any(array.any() for array in zeros.values())
    sparse.step([3])
    state = sparse.state
    first = sparse.step([5])
    sparse.state = state
    state["l1/h"][:] = 7  # a copy
    numpy.testing.assert_array_equal(sparse.step([5]), first)
    sparse.reset_state()
    assert (sparse.step([5]) != first).any()


def test_state_is_that_of_the_links(rng):
    model = prune(LanguageModel(), rng, 1)
    sparse = model.to_cpu_sparse()
    ids = rng.integers(0, WORDS, (4, 2))
    outputs(model, ids)
    sparse.predict(ids)
    for name, array in sparse.state.items():
        link, key = name.split("/")
        numpy.testing.assert_allclose(array, getattr(model[link], key), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("l1/h"), r"must hold the arrays \['l1/c', 'l1/h', 'l2"),
        (lambda s: s.update({"l1/h": numpy.zeros((1, 12), f4)}), r"\(batch, 11\)"),
        (lambda s: s.update({"l2/h": numpy.zeros((2, 9), f4)}), "the same batch"),
        (lambda s: s.update({"l2/h": numpy.zeros((1, 9), int)}), "floating-point"),
    ],
)
def test_wrong_state_is_refused(rng, change, text):
    sparse = LanguageModel().to_cpu_sparse()
    state = sparse.reset_state()
    change(state)
    with pytest.raises(ValueError, match=text):
        sparse.state = state


# Errors


@pytest.mark.parametrize("bad", [-1, WORDS])
def test_words_out_of_range_change_nothing(runtime, rng, bad):
    sparse = LanguageModel().to_cpu_sparse()
    sparse.step([3])
    before = sparse.state
    with pytest.raises(ValueError, match=rf"0 .. {WORDS - 1}, got .*{bad}.*vocabulary"):
        sparse.step([bad])
    with pytest.raises(ValueError, match="rows of the embedding"):
        sparse.predict([[0], [bad]])
    for name, array in sparse.state.items():
        numpy.testing.assert_array_equal(array, before[name])


def test_another_batch_than_the_states(rng):
    sparse = LanguageModel().to_cpu_sparse()
    sparse.step([3])
    with pytest.raises(ValueError, match=r"batch of 1.*reset_state\(2\)"):
        sparse.step([3, 4])
    sparse.reset_state(2)
    assert sparse.step([3, 4]).shape == (2, WORDS)


@pytest.mark.parametrize(
    ("method", "x", "error", "text"),
    [
        ("step", [0.5], TypeError, "must hold integers, got float64"),
        ("step", 3, ValueError, r"shape \(batch\), none 0, got \(\)"),
        ("step", [[3]], ValueError, r"shape \(batch\)"),
        ("predict", [3], ValueError, r"shape \(time, batch\), none 0, got \(1,\)"),
        ("predict", numpy.zeros((0, 3), int), ValueError, r"got \(0, 3\)"),
    ],
)
def test_wrong_input_is_refused(method, x, error, text):
    sparse = LanguageModel().to_cpu_sparse()
    with pytest.raises(error, match=text):
        getattr(sparse, method)(x)


def test_wrong_vectors_are_refused():
    sparse = to_cpu_sparse(L.LSTM(5, 3))
    with pytest.raises(TypeError, match="float32 numbers, got float64"):
        sparse.step(numpy.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"shape \(time, batch, 5\), .* got \(2, 5\)"):
        sparse.predict(numpy.zeros((2, 5), f4))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "`threads` must be a positive integer, got 0"),
        ({"formats": "tiles"}, "`formats` must be one of"),
    ],
)
def test_wrong_options_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        LanguageModel().to_cpu_sparse(**options)
    with pytest.raises(ValueError, match="`batch` must be a positive integer, got 0"):
        LanguageModel().to_cpu_sparse().reset_state(0)


def test_link_that_cannot_be_run_is_named():
    class Scale(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.factor = Parameter(initializers.Constant(1), (9,))

        def forward(self, x):
            return x * self.factor.array

    model = LanguageModel()
    with model.init_scope():
        model.scale = Scale()
    model.dropout = model.scale
    with pytest.raises(TypeError, match=r"`/scale` \(Scale\).*recurrent and linear"):
        model.to_cpu_sparse()


def test_recurrent_layer_of_unknown_size_is_named():
    with pytest.raises(RuntimeError, match="shape of layer `LSTM` is not known"):
        to_cpu_sparse(L.LSTM(3))


def test_layers_that_do_not_fit_are_named():
    model = LanguageModel()
    model.recurrent = [L.LSTM(12, 9)]
    with pytest.raises(ValueError, match="takes 12 numbers a step, got shape"):
        model.to_cpu_sparse()


def test_layer_used_twice_is_refused():
    model = LanguageModel(sizes=(8, 8))
    model.recurrent *= 2
    with pytest.raises(ValueError, match=r"of different names; got \['l1', 'l1'\]"):
        model.to_cpu_sparse()


def test_other_layers_are_refused(rng):
    layers = LanguageModel().to_cpu_sparse().layers
    with pytest.raises(ValueError, match="got `f`, a flatten"):
        SparseRecurrentModel([*layers, Flatten("f")])
    with pytest.raises(TypeError, match="a SparseRecurrentModel runs them"):
        SparseModel(layers)
    with pytest.raises(TypeError, match="DenseModel: `layers` must treat"):
        DenseModel(LanguageModel())


def test_lateral_weights_of_another_size_are_refused(rng):
    upward, lateral = (
        pruned_layer("", numpy.ones((8, n), f4), numpy.ones((8, n)) > 0, None)
        for n in (5, 3)
    )
    with pytest.raises(ValueError, match=r"layer `l` to have .* got \(8, 5\) and \(8,"):
        SparseRecurrentModel([Recurrent("l", "lstm", upward, lateral)])


def test_rows_without_a_sequence_are_refused():
    class Net(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.fc = L.Linear(4, 2)

        def forward(self, x):
            return self.fc(F.rows(x))

    with pytest.raises(TypeError, match="no recurrent layer; to flatten"):
        to_cpu_sparse(Net())


# Files


@pytest.fixture
def saved(rng, tmp_path):
    model = prune(LanguageModel(), rng, 0.1).to_cpu_sparse()
    path = tmp_path / "model.npz"
    model.save(path)
    return model, path


def rewrite(path, changes, header=None):
    """Change entries of a file; None takes one out."""
    with numpy.load(path) as archive:
        entries = {name: archive[name] for name in archive.files}
    if header:
        head = json.loads(str(entries["header"]))
        header(head)
        entries["header"] = numpy.asarray(json.dumps(head))
    entries |= changes
    numpy.savez(path, **{k: v for k, v in entries.items() if v is not None})


@pytest.mark.parametrize("cell", [L.LSTM, L.StatefulGRU, L.TanhRNN])
def test_file_gives_the_same_model(runtime, rng, tmp_path, cell):
    model = prune(LanguageModel(cell), rng, 0.3).to_cpu_sparse()
    model.save(tmp_path / "model.npz")
    loaded = sparse_backend.load(tmp_path / "model.npz")
    assert isinstance(loaded, SparseRecurrentModel)
    ids = rng.integers(0, WORDS, (5, 3))
    numpy.testing.assert_array_equal(loaded.predict(ids), model.predict(ids))
    assert loaded.summary() == model.summary()
    assert loaded.nbytes == model.nbytes


def test_file_of_a_model_of_vectors(rng, tmp_path):
    model = to_cpu_sparse(L.LSTM(5, 3))
    model.save(tmp_path / "model.npz")
    x = rng.standard_normal((4, 2, 5), dtype=f4)
    loaded = sparse_backend.load(tmp_path / "model.npz")
    numpy.testing.assert_array_equal(loaded.predict(x), model.predict(x))


def test_files_need_numpy_and_scipy_alone(saved, rng, tmp_path):
    model, path = saved
    ids = rng.integers(0, WORDS, (6, 1))
    program = f"""
import sys
for name in ("numba", "llvmlite", "autograd", "array_api_compat"):
    sys.modules[name] = None
import numpy
from vdcore.backends import sparse_backend
model = sparse_backend.load({str(path)!r})
numpy.save("y.npy", [model.step(row) for row in {ids.tolist()}])
"""
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    y = numpy.load(tmp_path / "y.npy")
    numpy.testing.assert_allclose(y, model.predict(ids), atol=1e-6)


# Layers: 0 embedding, 1 and 2 recurrent, 3 affine.
@pytest.mark.parametrize(
    ("header", "text"),
    [
        (lambda h: h.update(version=4), "version 4, and this vdcore reads 1 to 3"),
        (lambda h: h["layers"][1].update(cell="elman"), "a known cell; got elman"),
        (lambda h: h["layers"][1].update(cell="gru"), r"\(3 \* units, ...\)"),
        (lambda h: h["layers"][1].pop("maps"), "is damaged"),
        (lambda h: h["layers"][1]["maps"].pop("lateral"), "is damaged"),
        (
            lambda h: h["layers"][1]["maps"]["upward"].update(kind="flatten"),
            "affine maps",
        ),
        (lambda h: h["layers"][0].update(activation="tanh"), "vectors alone"),
        (lambda h: h["layers"].reverse(), "is damaged"),
        (lambda h: h["layers"][2].update(name="l1"), "different names"),
        (
            lambda h: h["layers"].append({"kind": "flatten", "name": "f"}),
            "a flatten",
        ),
    ],
)
def test_damaged_header_is_named(saved, header, text):
    _, path = saved
    rewrite(path, {}, header)
    with pytest.raises(FileFormatError, match=text):
        sparse_backend.load(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"1/upward/values": None}, "1/upward/values"),
        ({"1/lateral/indptr": numpy.zeros(45, numpy.int32)}, "indptr that rises"),
        ({"1/upward/b": numpy.zeros(43, f4)}, r"layer 'l1/upward': b of shape \(44,\)"),
        ({"1/W": numpy.zeros(3, f4)}, "entries are those of the header"),
    ],
)
def test_damaged_entries_are_named(saved, changes, text):
    _, path = saved
    rewrite(path, changes)
    with pytest.raises(FileFormatError, match=text):
        sparse_backend.load(path)


def test_summary(rng):
    model = prune(LanguageModel(sizes=(6, 5)), rng, 0).to_cpu_sparse()
    lines = [line.split() for line in model.summary().splitlines()]
    forms = model.formats
    assert lines[1:] == [
        ["embed", "csr", f"{WORDS}x6", f"{WORDS}x0", "0", "/", "222", "100.00", "152"],
        ["l1/upward", "csr", forms[0], "20x6", "0x0", "0", "/", "120", "100.00", "164"],
        ["l1/lateral", "csr", forms[1], "20x5", "0x0", "0", "/", "100", "100.00", "84"],
        [*f"scores csr {forms[2]} {WORDS}x5 {WORDS}x0 0 / 185 100.00 300".split()],
        ["total", "0", "/", "627", "100.00", "700"],
        ["embed:", "0", "of", f"{WORDS}", "words"],
        ["l1:", "0", "of", "5", "units"],
        ["l1:", "0", "of", "20", "gates"],
        "weights: 0 of 627, infx without what does nothing".split(),
    ]
