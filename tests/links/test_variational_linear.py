"""The linear layer with a Gaussian posterior."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import links as L
from vdcore import optimizers, serializers
from vdcore.arrays import to_numpy

X = numpy.asarray([[1.0, 2.0], [-0.5, 0.25]], numpy.float32)
W = numpy.asarray([[0.5, -1.0], [1e-3, 2.0], [1.0, 1e-4]], numpy.float32)
LOG_SIGMA2 = numpy.asarray([[-2.0, 0.0], [-4.0, -9.0], [-3.0, -8.0]], numpy.float32)
B = numpy.asarray([0.1, 0.2, 0.3], numpy.float32)
KEPT = numpy.asarray([[1, 1], [0, 1], [1, 0]], bool)  # log alpha at most 3


def layer_of(**options):
    return L.VariationalDropoutLinear(
        2, 3, initialW=W, initial_bias=B, initial_log_sigma2=LOG_SIGMA2, **options
    )


def test_first_values():
    layer = L.VariationalDropoutLinear(400, 100)
    assert layer.W.array.var() == pytest.approx(1 / 400, rel=5 * math.sqrt(2 / 40_000))
    assert (layer.log_sigma2.array == -10).all()
    assert layer.log_sigma2.array.dtype == layer.W.array.dtype == numpy.float32
    assert (layer.loga_threshold, layer.clip, layer.kl) == (3.0, 8.0, "molchanov")
    assert layer.mask_in_training is False
    assert sorted(path for path, _ in layer.namedparams()) == [
        "/W",
        "/b",
        "/log_sigma2",
    ]
    assert not layer.log_sigma2.decays
    assert layer.W.decays


def test_log_alpha_and_masks():
    layer = layer_of()
    expected = LOG_SIGMA2 - numpy.log(W.astype(float) ** 2 + 1e-8)
    numpy.testing.assert_allclose(layer.log_alpha(), expected, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_array_equal(layer.keep_mask(), KEPT)
    numpy.testing.assert_array_equal(layer.masked_W(), W * KEPT)
    numpy.testing.assert_allclose(
        L.calculate_p(layer), 1 / (1 + numpy.exp(-expected)), rtol=1e-5
    )


def test_training_samples_the_output():
    layer = layer_of(rng=numpy.random.default_rng(9))
    state = layer.rng.bit_generator.state
    y = layer(X)
    layer.rng.bit_generator.state = state
    noise = layer.draw_noise((2, 3), like=X).astype(float)
    std = numpy.sqrt(
        X.astype(float) ** 2 @ numpy.exp(LOG_SIGMA2.astype(float)).T + 1e-8
    )
    numpy.testing.assert_allclose(y, X @ W.T + B + std * noise, rtol=1e-5)
    assert (layer(X) != y).any()


def test_testing_uses_the_kept_means_without_noise():
    for masked in (False, True):
        layer = layer_of(mask_in_training=masked)
        with vdcore.using_config("train", False):
            y = layer(X)
            numpy.testing.assert_array_equal(y, layer(X))
        numpy.testing.assert_allclose(y, X @ (W * KEPT).T + B, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True, "switched on"])
def test_masks_in_training(masked):
    """Never (the default), always, or from some moment on."""
    layer = layer_of(mask_in_training=masked is True, clip=None)
    if masked == "switched on":
        before = layer.copy()
        numpy.testing.assert_array_equal(training_means(before), W)
        layer.mask_in_training = True
    keep = KEPT if masked else numpy.ones_like(KEPT)
    numpy.testing.assert_array_equal(training_means(layer), W * keep)
    assert layer.training_threshold == (3.0 if masked else None)
    _, penalty = layer.penalty(1.0)
    numpy.testing.assert_array_equal(penalty.log_sigma2_gradient != 0, keep)
    assert penalty.kept == KEPT.sum()


def training_means(layer):
    """The weights that a call in training uses, read off with noise switched off."""
    layer.draw_noise = lambda shape, like: numpy.zeros(shape, like.dtype)
    layer.b.array = numpy.zeros_like(B)
    return layer(numpy.eye(2, dtype=numpy.float32)).T


def test_masked_weights_never_come_back():
    layer = layer_of(mask_in_training=True)
    optimizer = optimizers.SGD(lr=0.1).setup(layer)
    for _ in range(3):
        optimizer.update(lambda: (layer(X) ** 2).sum() + layer.penalty(1.0)[0])
    for parameter, first in ((layer.W, W), (layer.log_sigma2, LOG_SIGMA2)):
        numpy.testing.assert_array_equal(parameter.array == first, ~KEPT)


def test_threshold_as_a_dropout_rate():
    """Rate .95 is log alpha = 2.944439."""
    layer = L.VariationalDropoutLinear(2, 3, p_threshold=0.95)
    assert layer.loga_threshold == pytest.approx(2.944439, abs=5e-7)
    assert L.VariationalDropoutLinear(2, 3, loga_threshold=1).loga_threshold == 1
    both = r"p_threshold` or `loga_threshold`, not both; .* log alpha = .*2\.9444"
    with pytest.raises(ValueError, match=both):
        L.VariationalDropoutLinear(2, 3, p_threshold=0.95, loga_threshold=3)
    for p in (0, 1, -0.5, 95, math.nan):
        with pytest.raises(
            ValueError, match=r"`p_threshold` must lie in \(0, 1\), got"
        ):
            L.VariationalDropoutLinear(2, 3, p_threshold=p)


def test_bad_options():
    with pytest.raises(
        ValueError, match=r"`kl` must be one of 'molchanov', 'exact'; got"
    ):
        L.VariationalDropoutLinear(2, 3, kl="ard")
    for clip in (2.0, -8.0, 3.0):
        with pytest.raises(
            ValueError, match="`clip` must be above `loga_threshold`, 3"
        ):
            L.VariationalDropoutLinear(2, 3, clip=clip)
    for sizes, argument in (
        ((2, 0), "out"),
        ((0,), "out"),
        ((0, 2), "in"),
        ((-1, 2), "in"),
    ):
        text = f"VariationalDropoutLinear: `{argument}_size` must be a positive integer"
        with pytest.raises(ValueError, match=text):
            L.VariationalDropoutLinear(*sizes)


def test_penalty_options_reach_the_kernel():
    for options in ({}, {"kl": "exact"}, {"clip": None}, {"loga_threshold": 0.5}):
        layer = layer_of(**options)
        value, penalty = layer.penalty(0.5)
        expected, other = F.sparse_vd_kl(
            W,
            LOG_SIGMA2,
            threshold=options.get("loga_threshold", 3.0),
            kl=options.get("kl", "molchanov"),
            clip=options.get("clip", 8.0),
            scale=0.5,
        )
        assert value == expected
        assert penalty.kept == other.kept


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("arguments", [(None, 3), (3,)])
def test_input_size_from_the_first_batch(tape_library, train, arguments):
    layer = L.VariationalDropoutLinear(*arguments, initial_log_sigma2=-5)
    layer.b.array = tape_library.asarray(layer.b.array)
    assert not layer.log_sigma2.is_initialized
    x = tape_library.asarray(numpy.ones((5, 2, 4), numpy.float32))
    with vdcore.using_config("train", train):
        assert tuple(layer(x).shape) == (5, 3)
    assert type(layer.log_sigma2.array) is type(x)
    assert (to_numpy(layer.log_sigma2.array) == -5).all()
    assert tuple(layer.log_sigma2.array.shape) == tuple(layer.W.array.shape) == (3, 8)


def test_seeds_repeat_weights_and_noise():
    outputs = []
    for seed in (1, 1, 2):
        vdcore.seed(seed)
        outputs.append(L.VariationalDropoutLinear(2, 30)(X))
    numpy.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).all()


def test_layers_draw_independent_noise():
    layers = [
        L.VariationalDropoutLinear(1, 1000, initialW=0, initial_log_sigma2=0)
        for _ in range(2)
    ]
    x = numpy.ones((20, 1), numpy.float32)
    first, second = (layer(x).ravel() for layer in layers)
    assert abs(numpy.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(first.size)
    assert first.var() == pytest.approx(1, abs=5 * math.sqrt(2 / first.size))


def test_size():
    size = layer_of().layer_size("/l")
    assert (size.weights, size.weights_kept, size.others) == (6, 4, 3)
    assert (size.inputs, size.inputs_kept) == (2, 2)
    assert (size.outputs, size.outputs_kept) == (3, 3)
    # Largest kept weight 2: 2 exponent bits. exp of the kept log variances is .1353, 1,
    # .00012341, .0498: 1, 0, 11, 3 bits, on average 3.75.
    assert size.weight_bits == 1 + 2 + 4


def test_round_trip(tmp_path):
    layer = layer_of()
    serializers.save_npz(tmp_path / "l.npz", layer)
    with numpy.load(tmp_path / "l.npz") as file:
        assert sorted(file) == ["W", "b", "log_sigma2"]
    for other in (
        L.VariationalDropoutLinear(2, 3),
        L.VariationalDropoutLinear(None, 3),
    ):
        serializers.load_npz(tmp_path / "l.npz", other)
        for mine, theirs in zip(layer.params(), other.params(), strict=True):
            numpy.testing.assert_array_equal(mine.array, theirs.array)


def test_a_plain_file_is_no_variational_one(tmp_path):
    serializers.save_npz(tmp_path / "l.npz", L.Linear(2, 3))
    with pytest.raises(serializers.FileFormatError, match="no entry 'log_sigma2'"):
        serializers.load_npz(tmp_path / "l.npz", L.VariationalDropoutLinear(2, 3))


def test_training_state_continues_the_noise():
    layer, other = layer_of(), layer_of()
    layer(X)
    layer.mask_in_training = True
    writer = serializers.DictionarySerializer()
    layer.serialize_training_state(writer)
    other.serialize_training_state(serializers.NpzDeserializer(writer.entries))
    assert other.mask_in_training is True
    numpy.testing.assert_array_equal(layer(X), other(X))


def test_sparse_cpu_model_of_one_layer():
    layer = layer_of()
    sparse = layer.get_sparse_cpu_model(batch_size=1, threads=1)
    numpy.testing.assert_allclose(sparse.predict(X), X @ (W * KEPT).T + B, rtol=1e-6)
    assert [stored.kept for stored in sparse.layers] == [KEPT.sum()]
    assert numpy.count_nonzero(layer.W.array) == W.size  # the layer is as before
    for options in ({"threads": 0}, {"batch_size": 0}):  # they reach the export
        with pytest.raises(ValueError, match="must be a positive integer"):
            layer.get_sparse_cpu_model(**options)


def test_copies_have_generators_of_their_own():
    layer = layer_of()
    other = layer.copy()
    numpy.testing.assert_array_equal(layer(X), other(X))
    assert other.rng is not layer.rng


def test_bad_input(library):
    layer = layer_of()
    for train in (True, False):
        name = "vd_linear" if train else "linear"
        with vdcore.using_config("train", train):
            with pytest.raises(
                ValueError, match=rf"{name}: `x` must have shape \(batch, 2"
            ):
                layer(numpy.ones((2, 5), numpy.float32))
            with pytest.raises(
                TypeError, match=f"{name}: `x` must have the dtype of `W`"
            ):
                layer(numpy.ones((2, 2)))
            if library.name != "numpy":
                with pytest.raises(
                    TypeError, match="arrays must come from one library"
                ):
                    layer(library.asarray(X))


def test_every_library(library):
    """The same output in evaluation, a noisy one of the library's own in training."""
    layer = layer_of()
    for parameter in layer.params():
        parameter.array = library.asarray(parameter.array)
    x = library.asarray(X)
    y = layer(x)
    assert type(y) is type(x)
    assert y.dtype == x.dtype
    with vdcore.using_config("train", False):
        y = to_numpy(layer(x))
    numpy.testing.assert_allclose(y, X @ (W * KEPT).T + B, rtol=1e-5)


@pytest.mark.parametrize("wrong", [[[1.0, 2.0]], None])
@pytest.mark.parametrize("cls", [L.Linear, L.VariationalDropoutLinear])
@pytest.mark.parametrize("in_size", [2, None])
@pytest.mark.parametrize("train", [True, False])
def test_an_input_that_is_no_array_is_refused(cls, in_size, train, wrong):
    expected = (
        f"^{cls.__name__}: `x` must be an array, got {type(wrong).__name__}; "
        r"convert it first, for example with numpy\.asarray$"
    )
    layer = cls(in_size, 3)
    with (
        vdcore.using_config("train", train),
        pytest.raises(TypeError, match=expected),
    ):
        layer(wrong)
