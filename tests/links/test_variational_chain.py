"""The objective of a whole model, its statistics and its state."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy.special import log_softmax

import vdcore
from vdcore import Chain, Sequential, optimizers, serializers
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.backends import numpy_backend
from vdcore.reporter import Reporter

N = 500


class Body(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.l1 = L.VariationalDropoutLinear(6, 5, nobias=True)
            self.l2 = L.VariationalDropoutLinear(5, 4)

    def forward(self, x):
        return F.relu(self.l2(F.relu(self.l1(x))))


class Model(L.VariationalDropoutChain):
    """Two variational layers in a nested chain, one on top and a plain one."""

    def __init__(self, **options):
        super().__init__(**{"num_examples": N, **options})
        with self.init_scope():
            self.body = Body()
            self.l3 = L.VariationalDropoutLinear(4, 4)
            self.out = L.Linear(4, 3)

    def forward(self, x):
        return self.out(F.relu(self.l3(self.body(x))))


@pytest.fixture
def data(rng):
    x = rng.standard_normal((8, 6)).astype(numpy.float32)
    return x, rng.integers(3, size=8)


def spread(model, rng):
    """Log alpha between -6 and 6, nothing within 1e-3 of the threshold."""
    for link in L.get_vd_links(model):
        W = link.W.array.astype(float)
        la = rng.uniform(-6, 6, W.shape)
        la[abs(la - 3) < 1e-3] += 0.01
        log_sigma2 = numpy.log(W**2 + 1e-8) + la
        link.log_sigma2.array = log_sigma2.astype(numpy.float32)
    return model


@pytest.fixture
def model(rng):
    return spread(Model(warm_up=0), rng)


def observed(model, *args, **options):
    observation = {}
    reporter = Reporter()
    reporter.add_observer("main", model)
    with reporter.scope(observation):
        loss = model.calc_loss(*args, **options)
    values = {name.removeprefix("main/"): value for name, value in observation.items()}
    return loss, {name: float(value) for name, value in values.items()}


class Double:
    """The same model in double precision NumPy, with noise of the caller's."""

    def __init__(self, model, noises=None):
        links = dict(model.namedlinks())
        self.layers = [links[p] for p in ("/body/l1", "/body/l2", "/l3")]
        self.out = links["/out"]
        self.noises = noises

    def la(self, layer):
        W = layer.W.array.astype(float)
        return layer.log_sigma2.array.astype(float) - numpy.log(W**2 + 1e-8)

    def class_loss(self, x, t):
        y = x.astype(float)
        for k, layer in enumerate(self.layers):
            W = layer.W.array.astype(float)
            sigma2 = numpy.exp(layer.log_sigma2.array.astype(float))
            b = 0 if layer.b is None else layer.b.array
            if self.noises is None:  # the network of test time
                y = y @ (W * (self.la(layer) <= 3)).T + b
            else:
                std = numpy.sqrt(y**2 @ sigma2.T + 1e-8)
                y = y @ W.T + b + std * self.noises[k]
            y = numpy.maximum(y, 0)
        y = y @ self.out.W.array.astype(float).T + self.out.b.array
        return -log_softmax(y, axis=1)[numpy.arange(len(t)), t].mean()

    def kls(self):
        """Equation 14 of Molchanov et al. 2017, by layer, elementwise."""
        for layer in self.layers:
            la = numpy.clip(self.la(layer), -8, 8)
            s = 1 / (1 + numpy.exp(-(1.8732 + 1.48695 * la)))
            yield 0.5 * numpy.log1p(numpy.exp(-la)) + 0.63576 * (1 - s)


def fix_noise(model, rng):
    """Give every layer noise that is known; return it."""
    noises = []
    for link in L.get_vd_links(model):
        noise = rng.standard_normal((8, link.out_size)).astype(numpy.float32)
        noises.append(noise.astype(float))
        link.draw_noise = lambda shape, like, noise=noise: noise.copy()
    return noises


@pytest.mark.parametrize("kl_scale", ["elbo", "layer-mean"])
@pytest.mark.parametrize("kl_coef", [1.0, 0.25])
def test_loss_by_hand(data, rng, kl_scale, kl_coef):
    model = spread(Model(warm_up=0, kl_scale=kl_scale), rng)
    model.kl_coef = kl_coef
    oracle = Double(model, fix_noise(model, rng))
    class_loss = oracle.class_loss(*data)
    if kl_scale == "elbo":
        kl = sum(k.sum() for k in oracle.kls()) / N
    else:
        kl = sum(k.mean() for k in oracle.kls())
    loss, seen = observed(model, *data)
    assert loss.dtype == numpy.float32
    assert float(loss) == pytest.approx(class_loss + kl_coef * kl, rel=1e-5)
    assert seen["class"] == pytest.approx(class_loss, rel=1e-5)
    assert seen["kl"] == pytest.approx(kl, rel=1e-5)
    assert seen["kl_coef"] == kl_coef
    assert seen["loss"] == float(loss)


def test_reported_statistics_by_hand(data, model):
    oracle = Double(model)
    las = [oracle.la(layer) for layer in oracle.layers]
    kept = sum((la <= 3).sum() for la in las)
    total = sum(la.size for la in las)
    rates = numpy.concatenate([1 / (1 + numpy.exp(-la.ravel())) for la in las])
    _, seen = observed(model, *data)
    assert sorted(seen) == sorted(
        ["class", "kl", "kl_coef", "loss", "accuracy", "mean_p", "sparsity", "W/Wnz"]
    )
    assert 0 < kept < total
    assert seen["sparsity"] == pytest.approx(1 - kept / total, abs=1e-6)
    assert seen["W/Wnz"] == pytest.approx(total / kept, rel=1e-6)
    assert seen["mean_p"] == pytest.approx(rates.mean(), rel=1e-5)


def test_every_count_is_of_the_same_set_of_weights(data, model):
    """Reported, calculated, counted, masked at test time: one threshold."""
    _, seen = observed(model, *data)
    stats = L.calculate_stats(model)
    size = model.size()
    masks = {path: link.keep_mask() for path, link in model.variational_links()}
    kept = int(sum(mask.sum() for mask in masks.values()))
    assert size.weights_kept == kept
    assert size.weights == 6 * 5 + 5 * 4 + 4 * 4
    assert stats["W/Wnz"] == seen["W/Wnz"] == pytest.approx(size.weight_ratio, rel=1e-6)
    assert stats["sparsity"] == pytest.approx(1 - kept / size.weights, abs=1e-6)
    assert [layer.name for layer in size.layers] == ["/body/l1", "/body/l2", "/l3"]
    assert size.others == 4 * 3 + 3  # the plain layer, which stays
    assert [layer.others for layer in size.layers] == [0, 4, 4]
    assert size.parameter_ratio == pytest.approx((66 + 8 + 15) / (kept + 8 + 15))
    assert size.threshold == 3


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 5.0, 9.0])
def test_statistics_at_another_threshold(model, threshold):
    """Log alpha lies in [-6, 6], and KL and mean rate have a clip of 8."""
    model.l3.loga_threshold = 1.0  # overridden as well
    oracle = Double(model)
    la = numpy.concatenate([oracle.la(layer).ravel() for layer in oracle.layers])
    assert abs(la - threshold).min() > 1e-4
    kept = (la <= threshold).sum()
    stats = L.calculate_stats(model, threshold)
    assert stats["sparsity"] == pytest.approx(1 - kept / la.size, abs=1e-6)
    assert stats["W/Wnz"] == pytest.approx(la.size / kept, rel=1e-6)
    assert stats["mean_p"] == pytest.approx((1 / (1 + numpy.exp(-la))).mean(), rel=1e-5)
    assert stats == L.calculate_stats(chain=model, threshold=threshold)


def test_statistics_use_each_layers_own_threshold(model):
    oracle = Double(model)
    thresholds = (3.0, 3.0, 1.0)
    model.l3.loga_threshold = thresholds[2]
    kept = sum(
        (oracle.la(layer) <= threshold).sum()
        for layer, threshold in zip(oracle.layers, thresholds, strict=True)
    )
    assert kept < sum((oracle.la(layer) <= 3).sum() for layer in oracle.layers)
    stats = L.calculate_stats(model)
    assert stats["W/Wnz"] == pytest.approx(66 / kept, rel=1e-6)


def test_flags_of_the_original(model):
    """What a script of the original asks of every link."""
    flagged = {
        name: [path for path, link in model.namedlinks() if getattr(link, name, False)]
        for name in ("is_variational_dropout", "is_variational_dropout_linear")
    }
    layers = ["/body/l1", "/body/l2", "/l3"]
    assert flagged == dict.fromkeys(flagged, layers)


def test_evaluation_is_of_the_masked_means(data, model):
    with vdcore.using_config("train", False):
        _, seen = observed(model, *data)
        _, again = observed(model, *data)
    assert seen == again
    assert seen["class"] == pytest.approx(Double(model).class_loss(*data), rel=1e-5)
    scores = model_scores(model, data[0])
    assert seen["accuracy"] == pytest.approx((scores.argmax(axis=1) == data[1]).mean())


def model_scores(model, x):
    with vdcore.using_config("train", False):
        return model(x)


def test_masks_in_training(data, rng):
    model = spread(Model(warm_up=0), rng)
    model.set_mask_in_training(True)
    assert all(link.mask_in_training for link in L.get_vd_links(model))
    oracle = Double(model)
    kl = sum(
        k[oracle.la(layer) <= 3].sum()
        for k, layer in zip(oracle.kls(), oracle.layers, strict=True)
    )
    _, seen = observed(model, *data)
    assert seen["kl"] == pytest.approx(kl / N, rel=1e-5)
    model.set_mask_in_training(False)
    assert not any(link.mask_in_training for link in L.get_vd_links(model))


def test_gradients(data, rng):
    """In double precision, along random directions; the objective and its KL."""
    model = spread(Model(warm_up=0), rng)
    fix_noise(model, rng)
    for link in L.get_vd_links(model):
        draw = link.draw_noise
        link.draw_noise = lambda shape, like, draw=draw: draw(shape, like).astype(float)
    parameters = list(model.params())
    arrays = [p.array.astype(float) for p in parameters]
    x, t = data[0].astype(float), data[1]

    def loss(*values):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.array = value
        return model.calc_loss(x, t)

    vdcore.testing.check_gradients(loss, arrays, step=1e-6, rtol=1e-5)


def test_gradient_of_the_kl_is_that_of_equation_14(data, rng):
    """By log_sigma2 of every weight, times kl_coef / N."""
    model = spread(Model(warm_up=0), rng)
    model.kl_coef = 0.5
    layer = model.l3
    la = Double(model).la(layer)
    s = 1 / (1 + numpy.exp(-(1.8732 + 1.48695 * la)))
    slope = -0.5 / (1 + numpy.exp(la)) - 0.63576 * 1.48695 * s * (1 - s)

    def difference(log_sigma2):
        layer.log_sigma2.array = log_sigma2
        _, kl = model.calc_loss(*data, split_loss=True)
        return kl * model.kl_coef

    _, (gradient,) = value_and_gradients(difference, [layer.log_sigma2.array])
    numpy.testing.assert_allclose(gradient, slope * 0.5 / N, rtol=1e-4, atol=1e-9)


def test_warm_up():
    """0, w, 2w, ... and at most 1; evaluation does not advance it."""
    x, t = numpy.ones((2, 6), numpy.float32), numpy.asarray([0, 1])
    model = Model(warm_up=0.3)
    coefficients = []
    for _ in range(6):
        coefficients.append(observed(model, x, t)[1]["kl_coef"])
        with vdcore.using_config("train", False):
            model.calc_loss(x, t)
    assert coefficients == pytest.approx([0, 0.3, 0.6, 0.9, 1, 1])


def test_without_warm_up_the_coefficient_is_the_callers():
    x, t = numpy.ones((2, 6), numpy.float32), numpy.asarray([0, 1])
    model = Model(warm_up=0)
    assert model.kl_coef == 1
    model.kl_coef = 2.5  # a schedule may go above 1
    model.calc_loss(x, t)
    assert model.kl_coef == 2.5


def test_the_default_warm_up_is_the_originals():
    model = Model()
    assert (model.kl_coef, model.warm_up) == (0, 0.0001)


def test_split_loss(data, model):
    fix_noise(model, numpy.random.default_rng(0))
    model.kl_coef = 0.25
    whole = model.calc_loss(*data)
    class_loss, kl = model.calc_loss(*data, split_loss=True)
    assert float(class_loss + 0.25 * kl) == pytest.approx(float(whole), rel=1e-6)
    assert float(kl) == pytest.approx(
        sum(k.sum() for k in Double(model).kls()) / N, rel=1e-5
    )


def test_without_kl_or_statistics(data, model):
    fix_noise(model, numpy.random.default_rng(0))
    loss, seen = observed(model, *data, add_kl=False, calc_stats=False)
    assert sorted(seen) == ["accuracy", "class", "loss"]
    assert seen["loss"] == seen["class"] == float(loss)
    _, seen = observed(model, *data, calc_stats=False)
    assert sorted(seen) == ["accuracy", "class", "kl", "kl_coef", "loss"]
    _, seen = observed(model, *data, add_kl=False)
    assert sorted(seen) == ["W/Wnz", "accuracy", "class", "loss", "mean_p", "sparsity"]
    # No KL is added, so none is needed to be scaled.
    model.num_examples = None
    assert float(model.calc_loss(*data, add_kl=False)) == float(loss)


def test_without_kl_the_coefficient_stands_still(data):
    model = Model(warm_up=0.3)
    model.calc_loss(*data, add_kl=False)
    assert model.kl_coef == 0


@pytest.mark.parametrize("name", ["W", "log_sigma2"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("compiled", [False, True])
def test_nan_is_never_hidden(data, model, monkeypatch, name, train, masked, compiled):
    """Not by a mask, not by the clip, not by a compiled kernel."""
    if not compiled:
        monkeypatch.setattr(numpy_backend, "COMPILED", False)
    model.set_mask_in_training(masked)
    getattr(model.body.l1, name).array[2, 3] = numpy.nan
    with vdcore.using_config("train", train):
        loss, seen = observed(model, *data)
    assert math.isnan(float(loss))
    assert math.isnan(seen["kl"])


def test_number_of_examples_must_be_known(data):
    model = Model(num_examples=None)
    with pytest.raises(
        RuntimeError, match=r"Model.calc_loss: .* num_examples=len\(train"
    ):
        model.calc_loss(*data)
    model = Model(num_examples=None, kl_scale="layer-mean")
    assert numpy.isfinite(float(model.calc_loss(*data)))
    for number in (0, -3):
        expected = rf"`num_examples` must be positive, got {number}; pass len\(train\)"
        with pytest.raises(ValueError, match=expected):
            Model(num_examples=number)
    for wrong in ("many", [1, 2], numpy.zeros(3), True):
        expected = (
            "VariationalDropoutChain: `num_examples` must be the number of training "
            rf"examples, got {type(wrong).__name__}; pass len\(train\)$"
        )
        with pytest.raises(TypeError, match=expected):
            Model(num_examples=wrong)


def test_unknown_scale():
    with pytest.raises(
        ValueError, match=r"`kl_scale` must be one of \('elbo', 'layer-me"
    ):
        Model(kl_scale="mean")


def test_a_model_without_variational_layers(data):
    class Plain(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=3)
            with self.init_scope():
                self.l1 = L.Linear(6, 3)

        def forward(self, x):
            return self.l1(x)

    model = Plain()
    for call in (lambda: model.calc_loss(*data), model.size):
        with pytest.raises(
            RuntimeError, match="Plain: there is no variational layer in"
        ):
            call()
    with pytest.raises(
        ValueError, match="calculate_stats: `chain` must have variational"
    ):
        L.calculate_stats(model)


def test_mix_in_before_a_plain_model(data):
    class Plain(Chain):
        def __init__(self, hidden):
            super().__init__()
            with self.init_scope():
                self.l1 = L.Linear(None, hidden)
                self.l2 = L.Linear(None, 3)

        def forward(self, x):
            return self.l2(F.relu(self.l1(x)))

    class PlainVD(L.VariationalDropoutChain, Plain):
        pass

    model = PlainVD(7, num_examples=N, warm_up=0).to_variational_dropout()
    optimizer = optimizers.Adam().setup(model)
    optimizer.update(model.calc_loss, *data)
    assert model.l1.log_sigma2.array.shape == (7, 6)
    assert (model.l2.log_sigma2.array != -10).all()


def test_everything_is_noise(data, model):
    for link in L.get_vd_links(model):
        link.log_sigma2.array = numpy.full_like(link.log_sigma2.array, 20)
    with vdcore.using_config("train", False):
        _, seen = observed(model, *data)
    assert seen["sparsity"] == 1
    assert seen["W/Wnz"] == math.inf
    assert model.size().weight_ratio == math.inf


def test_layers_with_thresholds_of_their_own_are_not_counted_together(model):
    model.l3.loga_threshold = 2.0
    with pytest.raises(ValueError, match=r"one threshold .* got \[2.0, 3.0\]"):
        model.size()


def test_every_library_of_the_tape(tape_library, data, rng):
    """The same objective, gradients and statistics on all of them."""
    results = []
    for convert in (numpy.array, tape_library.asarray):
        vdcore.seed(0)
        model = spread(Model(warm_up=0), numpy.random.default_rng(0))
        noises = fix_noise(model, numpy.random.default_rng(1))
        for link, noise in zip(L.get_vd_links(model), noises, strict=True):
            link.draw_noise = lambda shape, like, noise=noise, convert=convert: convert(
                noise.astype(numpy.float32)
            )
        for parameter in model.params():
            parameter.array = convert(parameter.array)
        x, t = map(convert, data)
        loss = optimizers.optimizer.compute_gradients(model, model.calc_loss, x, t)
        gradients = [p.grad for p in model.params()]
        for parameter in model.params():
            assert type(parameter.grad) is type(parameter.array) is type(x)
            assert parameter.grad.dtype == parameter.array.dtype == x.dtype
        stats = L.calculate_stats(model)
        results.append([float(loss), *stats.values(), *map(to_numpy, gradients)])
    for ours, theirs in zip(*results, strict=True):
        scale = numpy.abs(ours).max()
        numpy.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5 * scale)


def test_a_run_repeats_from_its_seed(data):
    parameters = []
    for seed in (5, 5, 6):
        vdcore.seed(seed)
        model = Model()
        optimizer = optimizers.Adam().setup(model)
        for _ in range(3):
            optimizer.update(model.calc_loss, *data)
        parameters.append(numpy.concatenate([p.array.ravel() for p in model.params()]))
    numpy.testing.assert_array_equal(parameters[0], parameters[1])
    assert (parameters[0] != parameters[2]).mean() > 0.4


def test_training_goes_on_from_a_file_bit_for_bit(data, tmp_path):
    def steps(optimizer, model, n):
        return [float(optimizer.update(model.calc_loss, *data)) for _ in range(n)]

    vdcore.seed(1)
    model = Model(warm_up=0.1)
    optimizer = optimizers.Adam().setup(model)
    steps(optimizer, model, 3)
    serializers.save_npz(tmp_path / "model.npz", model)
    serializers.save_npz(tmp_path / "optimizer.npz", optimizer)
    expected = steps(optimizer, model, 3)

    vdcore.seed(2)
    model = Model(warm_up=0.1)
    optimizer = optimizers.Adam().setup(model)
    serializers.load_npz(tmp_path / "model.npz", model)
    serializers.load_npz(tmp_path / "optimizer.npz", optimizer)
    assert model.kl_coef == pytest.approx(0.3)
    assert optimizer.t == 3
    assert steps(optimizer, model, 3) == expected


def test_sequential_models_nest(data):
    class Model(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=N)
            with self.init_scope():
                self.net = Sequential(
                    L.Linear(6, 4), F.relu, Sequential(L.Linear(4, 3), F.tanh)
                )

        def forward(self, x):
            return self.net(x)

    model = Model().to_variational_dropout()
    assert [path for path, _ in model.variational_links()] == ["/net/0", "/net/1/0"]
    assert numpy.isfinite(float(model.calc_loss(*data)))


class Scores(L.VariationalDropoutChain):
    """Gives what it is given as scores, through a layer that changes nothing."""

    def __init__(self, flat=False):
        super().__init__(num_examples=N, warm_up=0)
        self.flat = flat
        with self.init_scope():
            self.l = L.VariationalDropoutLinear(
                3, 3, True, numpy.eye(3, dtype="f4"), initial_log_sigma2=-100
            )

    def forward(self, x):
        shape = (-1, 3) if self.flat else tuple(x.shape)
        xp = array_namespace(x)
        return xp.reshape(self.l(xp.reshape(x, (-1, 3))), shape)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("shape", [(4, 2), (1, 1), (2, 3, 2)], ids=str)
def test_labels_of_sequences(tape_library, rng, shape, flat):
    """Cross-entropy and accuracy over all steps and sequences."""
    x = rng.standard_normal((*shape, 3)).astype(numpy.float32)
    t = rng.integers(3, size=shape)
    model = Scores(flat)
    for parameter in model.params():
        parameter.array = tape_library.asarray(parameter.array)
    _, values = observed(model, tape_library.asarray(x), tape_library.asarray(t))
    likelihoods = numpy.take_along_axis(log_softmax(x, axis=-1), t[..., None], -1)
    assert values["class"] == pytest.approx(-likelihoods.mean(), rel=1e-3)
    accuracy = (x.argmax(axis=-1) == t).mean()
    assert values["accuracy"] == pytest.approx(accuracy, rel=1e-6)


def test_labels_of_other_sequences(rng):
    x = rng.standard_normal((4, 2, 3)).astype(numpy.float32)
    text = r"calc_loss: scores for `t` of shape \(2, 4\) must have that shape and an "
    text += r"axis of classes, or shape \(8, classes\), got \(4, 2, 3\)"
    with pytest.raises(ValueError, match=text):
        Scores().calc_loss(x, rng.integers(3, size=(2, 4)))
    with pytest.raises(ValueError, match=r"got \(8, 3\)"):
        Scores(flat=True).calc_loss(x, rng.integers(3, size=(2, 3)))
    with pytest.raises(TypeError, match="calc_loss: `t` must be an array, got list"):
        Scores().calc_loss(x, [[1]])
