"""Multipliers of words, units and gates: against the plain layers they amount to."""

from __future__ import annotations

import copy

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import initializers, kernels, variational
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy
from vdcore.optimizers.optimizer import compute_gradients
from vdcore.reporter import Reporter
from vdcore.testing import check_gradients

FORMS = {
    L.LSTM: L.VariationalDropoutLSTM,
    L.StatefulGRU: L.VariationalDropoutGRU,
    L.TanhRNN: L.VariationalDropoutTanhRNN,
    L.OneHotLSTM: L.VariationalDropoutOneHotLSTM,
}
WORDS = 6


@pytest.fixture(params=list(FORMS), ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(params=["weights", "activations"])
def noise(request):
    return request.param


def inputs(kind, rng, time=4, batch=3):
    if kind is L.OneHotLSTM:
        return rng.integers(0, WORDS, (time, batch))
    return rng.standard_normal((time, batch, WORDS))


def layer(kind, rng, **options):
    """Some weights are noise, and so are a gate, a unit and a word."""
    normal = initializers.Normal(0.5, dtype="float64")
    plain = kind(WORDS, 5, normal, normal, normal)
    form = FORMS[kind]
    options = {"multipliers": form.kinds_of_multipliers} | options
    link = form.from_link(plain, **options)
    for each in link.links():
        if isinstance(each, L.VariationalLink):
            W = each.W.array = each.W.array + rng.normal(0, 0.1, each.W.array.shape)
            each.log_sigma2.array = numpy.log(W**2) + rng.uniform(-5, 4, W.shape)
            if not each.is_weighted:
                each.log_sigma2.array -= 4
                each.log_sigma2.array[1] = 5
    return link


def plain_of(kind, link, words, units, gates, W_up, W_lateral):
    """The plain layer with multipliers in its weights; its hidden states are h / s."""
    plain = kind(WORDS, 5)
    # Of the matrix whose rows are gates, whatever the layer keeps.
    up = W_up.T if kind is L.OneHotLSTM else W_up
    up = up * gates[:, None] * words
    plain.upward.W.array = up.T if kind is L.OneHotLSTM else up
    plain.lateral.W.array = W_lateral * gates[:, None] * units
    for part in (plain, plain.upward, plain.lateral):
        if getattr(part, "b", None) is not None:
            source = link if part is plain else link[part.name]
            part.b.array = source.b.array
    return plain


def test_testing_is_the_plain_layer_of_the_means(rng, kind):
    link, xs = layer(kind, rng), inputs(kind, rng)
    scales = [link.unit_scale, link.gate_scale]
    if kind is L.OneHotLSTM:
        scales.append(link.upward.word_scale)
    units, gates, *words = (scale.W.array * scale.keep_mask() for scale in scales)
    weights = [
        child.W.array
        * variational.keep_mask(
            variational.log_alpha(child.W.array, child.log_sigma2.array), 3.0
        )
        for child in (link.upward, link.lateral)
    ]
    plain = plain_of(kind, link, words[0] if words else 1, units, gates, *weights)
    with vdcore.using_config("train", False):
        for part in (xs[:2], xs[2:]):  # the state is carried
            numpy.testing.assert_allclose(link(part), plain(part) * units, atol=1e-12)
    assert (units == 0).any()
    assert (gates == 0).any()


def test_each_example_has_its_draw(rng, kind, monkeypatch):
    """One draw of weights for all; multipliers of each example, for all its steps."""
    link, xs = layer(kind, rng), inputs(kind, rng)
    drawn = {}

    def noted(like, generator, shape):
        noise = rng.standard_normal(shape)
        drawn.setdefault(id(generator), []).append(noise)
        return noise

    monkeypatch.setattr(kernels, "standard_normal", noted)
    hs = link(xs)

    def sampled(part, noise):
        return part.W.array + numpy.exp(part.log_sigma2.array / 2) * noise

    units, gates = (
        sampled(scale, drawn[id(scale.rng)][0])
        for scale in (link.unit_scale, link.gate_scale)
    )
    W_lateral = sampled(link.lateral, drawn[id(link.lateral.rng)][0])
    for i in range(xs.shape[1]):
        words = 1
        if kind is L.OneHotLSTM:
            table, rows = drawn[id(link.upward.rng)]
            W_up, words = link.upward.W.array + 0, numpy.ones(WORDS)
            flat = numpy.sort(xs.ravel())
            keys = numpy.sort((xs + WORDS * numpy.arange(xs.shape[1])).ravel())
            for word in set(xs.ravel()):
                k = flat.searchsorted(word)
                deviation = numpy.exp(link.upward.log_sigma2.array[word] / 2)
                W_up[word] += deviation * table[k]
            for word in set(xs[:, i]):
                scale = link.upward.word_scale
                deviation = numpy.exp(scale.log_sigma2.array[word] / 2)
                draw = rows[keys.searchsorted(word + WORDS * i), 0]
                words[word] = scale.W.array[word] + deviation * draw
        else:
            W_up = sampled(link.upward, drawn[id(link.upward.rng)][0])
        plain = plain_of(kind, link, words, units[i], gates[i], W_up, W_lateral)
        expected = plain(xs[:, i : i + 1]) * units[i]
        numpy.testing.assert_allclose(hs[:, i : i + 1], expected, atol=1e-12)


def test_every_library(library, rng, kind, noise):
    link = layer(kind, rng, noise=noise)
    xs = inputs(kind, rng).astype("int32" if kind is L.OneHotLSTM else "float64")
    results = []
    for xp in (numpy, library.xp):
        other = copy.deepcopy(link)
        for parameter in other.params():
            parameter.array = xp.asarray(parameter.array)
        results.append(to_numpy(other(xp.asarray(xs))))
    numpy.testing.assert_allclose(*results, rtol=1e-9)


def test_gradients(rng, kind, noise, monkeypatch):
    link, xs = layer(kind, rng, noise=noise), inputs(kind, rng)
    weights = rng.standard_normal((4, 3, 5))
    states = {id(x): x.rng.bit_generator.state for x in vd_links(link)}

    def loss(*arrays):
        for parameter, array in zip(link.params(), arrays, strict=True):
            parameter.array = array
        for each in vd_links(link):
            each.rng.bit_generator.state = states[id(each)]
        link.reset_state()
        hs = link(xs)
        return array_namespace(hs).sum(hs * weights)

    check_gradients(loss, [p.array for p in link.params()])


def vd_links(link):
    return [x for x in link.links() if isinstance(x, L.VariationalLink)]


def test_masked_multipliers_have_no_gradient(rng, kind):
    link, xs = layer(kind, rng, mask_in_training=True), inputs(kind, rng)

    def loss():
        hs = link(xs)
        return array_namespace(hs).sum(hs * hs)

    compute_gradients(link, loss)
    scales = [x for x in vd_links(link) if not x.is_weighted]
    assert len(scales) == 3 if kind is L.OneHotLSTM else 2
    for scale in scales:
        assert not scale.keep_mask()[1]
        for parameter in (scale.W, scale.log_sigma2):
            assert parameter.grad[1] == 0
            assert abs(parameter.grad).max() > 0


class Model(L.VariationalDropoutChain):
    def __init__(self, kind=L.LSTM, **options):
        super().__init__(num_examples=10, warm_up=0)
        self.takes_words = kind is L.OneHotLSTM
        with self.init_scope():
            if not self.takes_words:
                self.embed = L.EmbedID(WORDS, 4)
            self.l1 = kind(WORDS if self.takes_words else 4, 5)
            self.l2 = L.Linear(5, WORDS)
        self.to_variational_dropout(**options)

    def forward(self, ids):
        return self.l2(F.rows(self.l1(ids if self.takes_words else self.embed(ids))))


ALL = ("words", "units", "gates")


def test_conversion_gives_each_layer_its_own(kind):
    model = Model(kind, multipliers=ALL, initial_log_sigma2=-6.0, kl="exact")
    paths = {path for path, link in model.variational_links() if not link.is_weighted}
    words = "/l1/upward" if kind is L.OneHotLSTM else "/embed"
    assert paths == {f"{words}/word_scale", "/l1/unit_scale", "/l1/gate_scale"}
    gates = model.l1.gates
    for path, link in model.variational_links():
        assert (link.log_sigma2.array == -6).all()
        assert link.kl == "exact"
        if not link.is_weighted:
            size = {"word_scale": WORDS, "unit_scale": 5, "gate_scale": 5 * gates}
            expected = numpy.ones(size[path.split("/")[-1]], "f4")
            numpy.testing.assert_array_equal(link.W.array, expected, strict=True)
    some = Model(kind, multipliers=("units",))
    assert sum(not link.is_weighted for _, link in some.variational_links()) == 1


def test_divergence_counts_multipliers_and_statistics_do_not(rng, kind):
    vdcore.seed(0)
    model = Model(kind, multipliers=ALL, initial_log_sigma2=-2.0)
    ids = rng.integers(0, WORDS, (4, 3)).astype("i4")
    kl, kept, size, rates = 0.0, 0, 0, 0.0
    for _, link in model.variational_links():
        log_alpha = link.log_alpha()
        kl += variational.kl_sparse_vd(log_alpha.clip(-8, 8)).sum(dtype=float)
        if link.is_weighted:
            kept += (log_alpha <= 3).sum()
            size += log_alpha.size
            rates += (1 / (1 + numpy.exp(-log_alpha.clip(-8, 8)))).sum(dtype=float)
    reporter = Reporter()
    reporter.add_observer("main", model)
    observation = {}
    with reporter.scope(observation):
        model.calc_loss(ids, ids)
    assert float(observation["main/kl"]) == pytest.approx(kl / 10, rel=1e-5)
    assert float(observation["main/W/Wnz"]) == pytest.approx(size / kept, rel=1e-5)
    assert float(observation["main/mean_p"]) == pytest.approx(rates / size, rel=1e-5)
    assert L.calculate_stats(model)["W/Wnz"] == pytest.approx(size / kept, rel=1e-5)


def test_sizes_count_what_groups_leave(kind):
    model = Model(kind, multipliers=ALL, initial_log_sigma2=-12.0)
    model(numpy.zeros((1, 1), "i4"))
    words = model.l1.upward if kind is L.OneHotLSTM else model.embed
    words.word_scale.log_sigma2.array[:2] = 9
    model.l1.unit_scale.log_sigma2.array[0] = 9
    model.l1.gate_scale.log_sigma2.array[[1, 2]] = 9
    for _, link in model.variational_links():
        if link.is_weighted:
            link.W.array = numpy.ones_like(link.W.array)
    gates = model.l1.gates
    rows = 4 * gates - 2  # of four units left, without two gates
    kept = {x.name: x.weights_kept for x in model.size().layers}
    assert kept["/l1/lateral"] == rows * 4
    if kind is L.OneHotLSTM:
        assert kept["/l1/upward"] == (WORDS - 2) * rows
    else:
        assert kept["/embed"] == (WORDS - 2) * 4
        assert kept["/l1/upward"] == rows * 4
    assert kept["/l2"] == 5 * WORDS
    total = sum(p.array.size for _, p in model.namedparams())
    size = model.size()
    biases = (
        total
        - 2 * size.weights
        - sum(
            2 * x.W.array.size
            for _, x in model.variational_links()
            if not x.is_weighted
        )
    )
    everything = size.weights + biases
    left = size.weights_kept + biases
    assert size.parameter_ratio == pytest.approx(everything / left)


def test_a_scale_alone(rng):
    """A layer of a network without sequences: neurons have multipliers."""
    vdcore.seed(0)
    scale = L.VariationalDropoutScale(4, initial_log_sigma2=-2.0)
    x = rng.standard_normal((5, 3, 4)).astype("f4")
    ratio = scale(x) / x
    numpy.testing.assert_allclose(ratio, ratio[:1].repeat(5, axis=0), rtol=1e-5)
    assert len(numpy.unique(ratio[0])) == 12
    many = scale(numpy.ones((40_000, 4), "f4"))
    numpy.testing.assert_allclose(many.mean(axis=0), 1, atol=0.01)
    numpy.testing.assert_allclose(many.std(axis=0), numpy.exp(-1), atol=0.01)
    scale.log_sigma2.array[2] = 3.5
    with vdcore.using_config("train", False):
        numpy.testing.assert_array_equal(scale(x), x * numpy.float32([1, 1, 0, 1]))


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 2, 3, 4)])
def test_a_scale_of_another_shape(shape):
    text = r"^VariationalDropoutScale: `x` must have shape \(batch, 4\) or \(time, "
    with pytest.raises(ValueError, match=text):
        L.VariationalDropoutScale(4)(numpy.ones(shape, "f4"))


@pytest.mark.parametrize("size", [0, 2.0, None])
def test_a_bad_size(size):
    with pytest.raises(ValueError, match="`size` must be a positive integer"):
        L.VariationalDropoutScale(size)


@pytest.mark.parametrize("bad", ["units", ("unit",), ("units", "units"), None])
def test_bad_multipliers(bad):
    text = r"`multipliers` must be a tuple of some of 'units', 'gates', got"
    with pytest.raises(ValueError, match=f"^VariationalDropoutLSTM: {text}"):
        L.VariationalDropoutLSTM(3, 4, multipliers=bad)
    with pytest.raises(ValueError, match=r"^to_variational_dropout: `multipliers`"):
        Model(multipliers=bad)
    with pytest.raises(ValueError, match=r"tuple of some of 'words', got"):
        L.VariationalDropoutEmbedID(3, 4, multipliers=bad)


def test_multipliers_of_layers_that_are_not_there():
    class Plain(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.l = L.Linear(3, 2)

    with pytest.raises(ValueError, match="it has no plain one with units"):
        Plain().to_variational_dropout(multipliers=("units",))
    model = Plain()
    with pytest.raises(ValueError, match="with words"):
        model.to_variational_dropout(multipliers=("words",))
    assert type(model.l) is L.Linear


def test_files_and_copies_keep_multipliers(rng, tmp_path, kind):
    model = Model(kind, multipliers=ALL)
    ids = rng.integers(0, WORDS, (4, 3)).astype("i4")
    model(ids)
    for _, link in model.variational_links():
        W = link.W.array = rng.standard_normal(link.W.array.shape).astype("f4")
        link.log_sigma2.array = (numpy.log(W**2) + rng.uniform(-3, 4)).astype("f4")
    vdcore.serializers.save_npz(tmp_path / "model.npz", model)
    other = Model(kind, multipliers=ALL)
    vdcore.serializers.load_npz(tmp_path / "model.npz", other)
    twin = model.copy()
    twin.l1.unit_scale.log_sigma2.array[:] = 9  # the copy's own, in its masks too
    assert not twin.l1.lateral.keep_mask().any()
    with vdcore.using_config("train", False):
        for each in (model, other):
            each.l1.reset_state()
        numpy.testing.assert_array_equal(other(ids), model(ids))
