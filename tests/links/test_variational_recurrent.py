"""Recurrent layers with a Gaussian posterior: both rules of noise, by hand."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import initializers, variational
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy
from vdcore.optimizers.optimizer import compute_gradients
from vdcore.reporter import Reporter
from vdcore.testing import check_gradients

FORMS = {
    L.LSTM: L.VariationalDropoutLSTM,
    L.StatefulGRU: L.VariationalDropoutGRU,
    L.TanhRNN: L.VariationalDropoutTanhRNN,
}
RULES = ("weights", "activations")


@pytest.fixture(params=list(FORMS), ids=lambda kind: kind.__name__)
def plain_kind(request):
    return request.param


@pytest.fixture
def xs(rng):
    """Four steps of a batch of two."""
    return rng.standard_normal((4, 2, 3))


def plain(kind, dtype="float64"):
    normal = initializers.Normal(0.5, dtype=dtype)
    return kind(3, 5, normal, normal, normal)


def spread(link, rng):
    """Log alpha between -4 and 6: some weights are noise."""
    for child in link.children():
        W = child.W.array
        log_sigma2 = numpy.log(W**2) + rng.uniform(-4, 6, W.shape)
        child.log_sigma2.array = log_sigma2.astype(W.dtype)
    return link


def variational_of(kind, rng, **options):
    return spread(FORMS[kind].from_link(plain(kind), **options), rng)


def draws(child, *shapes):
    """What a child draws next, without drawing it."""
    state = child.rng.bit_generator.state
    noise = [child.draw_noise(shape, like=child.W.array) for shape in shapes]
    child.rng.bit_generator.state = state
    return noise


@pytest.mark.parametrize("masked", [False, True])
def test_one_draw_of_weights_for_a_call(rng, xs, plain_kind, masked):
    """The plain layer with sampled weights, for all steps and examples."""
    link = variational_of(plain_kind, rng, mask_in_training=masked)
    other = plain(plain_kind)
    for name in ("upward", "lateral"):
        child, copy = link[name], other[name]
        (noise,) = draws(child, child.W.array.shape)
        W = child.W.array + numpy.exp(child.log_sigma2.array / 2) * noise
        copy.W.array = W * child.keep_mask() if masked else W
        if child.b is not None:
            copy.b.array = child.b.array
    numpy.testing.assert_allclose(link(xs), other(xs), rtol=1e-12)
    assert abs(link(xs) - other(xs)).max() > 1e-2  # the next call draws again


@pytest.mark.parametrize("masked", [False, True])
def test_a_draw_for_each_activation(rng, xs, plain_kind, masked):
    """Local reparameterisation of all products, traced functions step by step."""
    link = variational_of(plain_kind, rng, noise="activations", mask_in_training=masked)
    rows = link.upward.out_size
    (up,) = draws(link.upward, (8, rows))
    lateral = draws(link.lateral, *[(2, rows)] * 4)
    threshold = 3.0 if masked else None

    def product(child, x, noise):
        b = None if child.b is None else child.b.array
        arrays = child.W.array, child.log_sigma2.array
        return F.vd_linear(x, *arrays, b, noise + 0, threshold)

    z = product(link.upward, xs.reshape(8, 3), up).reshape(4, 2, rows)
    h = c = numpy.zeros((2, 5))
    expected = []
    for t in range(4):
        a = product(link.lateral, h, lateral[t])
        if plain_kind is L.LSTM:
            h, c = F.lstm_cell(z[t] + a, c)
        elif plain_kind is L.StatefulGRU:
            h = F.gru_cell(z[t], a, h)
        else:
            h = numpy.tanh(z[t] + a)
        expected.append(h)
    numpy.testing.assert_allclose(link(xs), expected, rtol=1e-12)


@pytest.mark.parametrize("noise", RULES)
def test_what_shares_a_draw(rng, plain_kind, noise):
    """Two equal examples are equal still if, and only if, weights are drawn."""
    link = variational_of(plain_kind, rng, noise=noise)
    x = numpy.repeat(rng.standard_normal((4, 1, 3)), 2, axis=1)
    y = link(x)
    same = numpy.isclose(y[:, 0], y[:, 1], rtol=1e-12, atol=0)
    assert same.all() if noise == "weights" else not same.any()


@pytest.mark.parametrize("noise", RULES)
@pytest.mark.parametrize("masked", [False, True])
def test_testing_uses_the_kept_means_without_noise(rng, xs, plain_kind, noise, masked):
    link = variational_of(plain_kind, rng, noise=noise, mask_in_training=masked)
    other = plain(plain_kind)
    for name in ("upward", "lateral"):
        child, copy = link[name], other[name]
        copy.W.array = child.W.array * child.keep_mask()
        assert (copy.W.array == 0).any()
        if child.b is not None:
            copy.b.array = child.b.array
    expected = other(xs)
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(link(xs), expected, rtol=1e-13)
        link.reset_state()
        numpy.testing.assert_allclose(link(xs), expected, rtol=1e-13)
        link.reset_state()
        steps = [link(x) for x in xs]
    numpy.testing.assert_allclose(numpy.stack(steps), expected, rtol=1e-13)


@pytest.mark.parametrize("noise", RULES)
def test_weights_are_masked_once_a_sequence(rng, xs, plain_kind, noise, monkeypatch):
    """In evaluation, where steps share them under either rule."""
    link = variational_of(plain_kind, rng, noise=noise)
    masked = []
    whole = L.VariationalLink.masked_W
    monkeypatch.setattr(
        L.VariationalLink, "masked_W", lambda self: masked.append(self) or whole(self)
    )
    with vdcore.using_config("train", False):
        link(xs)
    assert masked == [link.upward, link.lateral]


@pytest.mark.parametrize("noise", RULES)
def test_every_library(library, rng, xs, plain_kind, noise):
    link = variational_of(plain_kind, rng, noise=noise)
    with vdcore.using_config("train", False):
        expected = link(xs)
    link.reset_state()
    for parameter in link.params():
        parameter.array = library.asarray(parameter.array)
    x = library.asarray(xs)
    y = link(x)
    assert type(y) is type(x)
    assert (y.dtype, tuple(y.shape)) == (x.dtype, (4, 2, 5))
    link.reset_state()
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(to_numpy(link(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("noise", RULES)
def test_gradients(tape_library, rng, xs, plain_kind, noise):
    """With the same noise each time, by all parameters and the input."""
    link = variational_of(plain_kind, rng, noise=noise)
    fixed = {}

    def same(child):
        def draw(shape, like):
            key = (id(child), len([k for k in calls if k == id(child)]))
            calls.append(id(child))
            if key not in fixed:
                fixed[key] = rng.standard_normal(shape)
            return tape_library.asarray(fixed[key])

        return draw

    calls = []
    for child in link.children():
        child.draw_noise = same(child)
    parameters = list(link.params())

    def function(x, *arrays):
        calls.clear()
        link.reset_state()
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.array = array
        return link(x)

    arrays = [xs, *(parameter.array for parameter in parameters)]
    check_gradients(
        function, [tape_library.asarray(a) for a in arrays], step=1e-6, rtol=1e-5
    )


def test_masked_weights_have_no_gradient(rng, xs, plain_kind):
    for noise in RULES:
        link = variational_of(plain_kind, rng, noise=noise, mask_in_training=True)
        compute_gradients(link, lambda link=link: (link(xs) ** 2).sum())
        for child in link.children():
            keep = child.keep_mask()
            assert not keep.all()
            for parameter in (child.W, child.log_sigma2):
                numpy.testing.assert_array_equal(parameter.grad != 0, keep)


@pytest.mark.parametrize("noise", RULES)
def test_moments_of_a_step(noise):
    """Near 0, where a unit is linear, those of its input weight and bias."""
    link = L.VariationalDropoutTanhRNN(
        1, 500, upward_init=1e-3, initial_log_sigma2=-14.0, noise=noise
    )
    y = link(numpy.ones((1, 1), "f4"))
    # Local reparameterisation adds 1e-8 to the variance of each of two products.
    variance = math.exp(-14) + (2e-8 if noise == "activations" else 0)
    assert y.mean() == pytest.approx(1e-3, abs=5 * math.sqrt(variance / 500))
    assert y.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / 500))


def test_first_values_and_options(plain_kind):
    kind = FORMS[plain_kind]
    link = kind(3, 4)
    assert link.noise == "weights"
    for child in link.children():
        assert type(child) is L.VariationalDropoutLinear
        assert (child.log_sigma2.array == -10).all()
        assert (child.loga_threshold, child.clip, child.kl) == (3.0, 8.0, "molchanov")
    rng = numpy.random.default_rng(2)
    link = kind(
        3, 4, noise="activations", p_threshold=0.9, initial_log_sigma2=-8, kl="exact",
        mask_in_training=True, clip=None, rng=rng,
    )  # fmt: skip
    for child in link.children():
        assert child.loga_threshold == pytest.approx(math.log(9))
        assert (child.log_sigma2.array == -8).all()
        assert (child.kl, child.clip, child.mask_in_training) == ("exact", None, True)
        assert child.rng is rng
    with pytest.raises(ValueError, match=f"{kind.__name__}: `noise` must be 'weights'"):
        kind(3, 4, noise="local")
    with pytest.raises(TypeError, match="log_sigma"):
        kind(3, 4, log_sigma=3)


@pytest.mark.parametrize("in_size", [3, None])
def test_from_a_plain_link(xs, plain_kind, in_size):
    other = plain_kind(in_size, 4, bias_init=0.25)
    if hasattr(other, "recompute"):
        other.recompute = True
    link = FORMS[plain_kind].from_link(other, noise="activations", kl="exact")
    assert type(link) is FORMS[plain_kind]
    assert isinstance(link, plain_kind)
    assert (link.noise, link.out_size, link.in_size) == ("activations", 4, in_size)
    assert getattr(link, "recompute", True) is True
    assert (link.lateral.b is None) == (other.lateral.b is None)
    x = xs.astype("f4")
    with vdcore.using_config("train", False):
        if in_size is None:
            link(x)
            return
        expected = other(x)
        link.upward.W.array += 0  # of its own
        for child in link.children():
            child.log_sigma2.array -= 100
        numpy.testing.assert_allclose(link(x), expected, rtol=1e-5)
    for mine, theirs in ((link.upward, other.upward), (link.lateral, other.lateral)):
        numpy.testing.assert_array_equal(mine.W.array, theirs.W.array)
        assert not numpy.shares_memory(mine.W.array, theirs.W.array)


def test_float64_is_kept(plain_kind):
    link = FORMS[plain_kind].from_link(plain(plain_kind))
    assert {p.array.dtype.name for p in link.params()} == {"float64"}
    link = FORMS[plain_kind](3, 4, upward_init=initializers.Normal(dtype="float64"))
    assert {p.array.dtype.name for p in link.params()} == {"float64"}


def test_seeds_repeat_weights_and_noise(xs, plain_kind):
    outputs = []
    for seed in (1, 1, 2):
        vdcore.seed(seed)
        outputs.append(FORMS[plain_kind](3, 4)(xs.astype("f4")))
    numpy.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).all()


# ------------------------------------------------------------------------ whole models

WORDS = 7


class LanguageModel(L.VariationalDropoutChain):
    def __init__(self, kind=L.LSTM, **options):
        super().__init__(**{"num_examples": 1000, "warm_up": 0.01} | options)
        with self.init_scope():
            self.embed = L.EmbedID(WORDS, 3)
            self.rnn = kind(3, 4)
            self.out = L.Linear(4, WORDS)

    def forward(self, ids):
        y = self.rnn(self.embed(ids))
        xp = array_namespace(y)
        scores = self.out(xp.reshape(y, (-1, 4)))
        return xp.reshape(scores, (*ids.shape, WORDS))


def observed(model, *args):
    observation = {}
    reporter = Reporter()
    reporter.add_observer("main", model)
    with reporter.scope(observation):
        loss = model.calc_loss(*args)
    return loss, {key.removeprefix("main/"): v for key, v in observation.items()}


LAYERS = ["/embed", "/rnn/upward", "/rnn/lateral", "/out"]


@pytest.mark.parametrize("noise", RULES)
def test_conversion_of_a_language_model(plain_kind, noise):
    model = LanguageModel(plain_kind).to_variational_dropout(noise=noise)
    assert type(model.rnn) is FORMS[plain_kind]
    assert type(model.embed) is L.VariationalDropoutEmbedID
    assert model.rnn.noise == model.embed.noise == noise
    assert [path for path, _ in model.variational_links()] == LAYERS
    with pytest.raises(ValueError, match="to_variational_dropout: `noise` must be"):
        LanguageModel().to_variational_dropout(noise="none")


def test_a_layer_alone_is_not_converted_in_place(plain_kind):
    expected = f"use {FORMS[plain_kind].__name__}.from_link"
    with pytest.raises(TypeError, match=expected):
        L.to_variational_dropout(plain_kind(3, 4))


def test_inside_of_a_subclass_conversion_reaches_the_children(rng):
    class Peephole(L.LSTM):
        """A subclass, which may compute something else."""

    model = LanguageModel(Peephole).to_variational_dropout()
    assert type(model.rnn) is Peephole
    assert [path for path, _ in model.variational_links()] == LAYERS
    assert model.rnn.lateral.b is None
    ids = rng.integers(0, WORDS, (5, 2))
    first, second = model(ids), model(ids)
    assert (first != second).all()


def test_each_layer_counts_once(rng):
    model = LanguageModel().to_variational_dropout()
    spread(model.rnn, rng)
    links = dict(model.variational_links())
    weights = {"/embed": 21, "/rnn/upward": 48, "/rnn/lateral": 64, "/out": 28}
    size = model.size()
    assert {layer.name: layer.weights for layer in size.layers} == weights
    assert (size.weights, size.others) == (161, 0)
    assert sum(layer.others for layer in size.layers) == 16 + WORDS  # the biases
    kept = sum(int(link.keep_mask().sum()) for link in links.values())
    assert size.weights_kept == kept
    assert L.calculate_stats(model)["sparsity"] == pytest.approx(1 - kept / 161)


@pytest.mark.parametrize("length", [1, 6])
@pytest.mark.parametrize("noise", RULES)
def test_the_divergence_counts_once_a_window(rng, length, noise):
    model = LanguageModel().to_variational_dropout(noise=noise)
    ids = rng.integers(0, WORDS, (length + 1, 2))
    _, values = observed(model, ids[:-1], ids[1:])
    total = 0.0
    for _, link in model.variational_links():
        la = link.log_alpha().astype(float).clip(-8, 8)
        total += variational.kl_sparse_vd(la).sum()
    assert values["kl"] == pytest.approx(total / 1000, rel=1e-5)
    assert model.kl_coef == pytest.approx(0.01)


def test_a_language_model_learns(plain_kind):
    """A text that repeats itself: which word comes next depends on the last two."""
    vdcore.seed(1)
    text = numpy.tile([0, 1, 2, 0, 3, 4], 60)
    model = LanguageModel(plain_kind, num_examples=10**6).to_variational_dropout()
    optimizer = vdcore.optimizers.Adam(0.02).setup(model)
    stream = numpy.stack([text[:-1], text[1:]], axis=1)  # two places of the text
    for k in 5 * list(range(0, 340, 10)):
        window = stream[k : k + 11]
        optimizer.update(model.calc_loss, window[:-1], window[1:])
    with vdcore.using_config("train", False):
        model.rnn.reset_state()
        _, values = observed(model, stream[:60], stream[1:61])
    assert float(values["class"]) < 0.12  # without a memory at best log(2) / 3
    assert float(values["accuracy"]) > 0.95  # at best 5/6
