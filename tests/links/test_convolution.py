"""The convolutional layer, plain and with a Gaussian posterior."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import links as L
from vdcore import optimizers, serializers
from vdcore.arrays import to_numpy
from vdcore.optimizers.optimizer import compute_gradients

RNG = numpy.random.default_rng(0)
X = RNG.standard_normal((5, 4, 7, 6)).astype(numpy.float32)
W = RNG.standard_normal((6, 2, 3, 2)).astype(numpy.float32)
LOG_SIGMA2 = RNG.normal(0, 3, W.shape).astype(numpy.float32)
B = RNG.standard_normal(6).astype(numpy.float32)
GEOMETRY = {"stride": (2, 1), "pad": (1, 0), "dilate": (1, 2), "groups": 2}


def layer_of(**options):
    return L.VariationalDropoutConvolution2D(
        4,
        6,
        (3, 2),
        initialW=W,
        initial_bias=B,
        initial_log_sigma2=LOG_SIGMA2,
        **GEOMETRY,
        **options,
    )


def torch_convolution(x, W, b):
    torch = pytest.importorskip("torch")
    names = {"pad": "padding", "dilate": "dilation"}
    options = {names.get(key, key): value for key, value in GEOMETRY.items()}
    x, W, b = (torch.from_numpy(a.astype(float)) for a in (x, W, b))
    return torch.nn.functional.conv2d(x, W, b, **options).numpy()


def test_shapes_and_first_values():
    layer = L.Convolution2D(40, 100, 5)
    assert layer.in_channels == 40
    assert layer.W.array.shape == (100, 40, 5, 5)
    assert layer.W.array.dtype == numpy.float32
    size = 100 * 40 * 25
    assert layer.W.array.var() == pytest.approx(1 / 1000, rel=5 * math.sqrt(2 / size))
    assert layer.b.array.tolist() == [0] * 100


def test_value(tape_library):
    layer = L.Convolution2D(4, 6, (3, 2), initialW=W, initial_bias=B, **GEOMETRY)
    for parameter in layer.params():
        parameter.array = tape_library.asarray(parameter.array)
    y = to_numpy(layer(tape_library.asarray(X)))
    numpy.testing.assert_allclose(y, torch_convolution(X, W, B), rtol=1e-4, atol=1e-5)


def test_arguments_in_chainers_order():
    layer = L.Convolution2D(3, 8, 5, 2, 1, True)
    assert layer.window == ((5, 5), (2, 2), (1, 1), (1, 1))
    assert layer.b is None
    layer = L.VariationalDropoutConvolution2D(
        3, 8, 5, 2, 1, False, None, 0.5, True, None, 2.5, -7
    )
    assert layer.deterministic
    assert layer.loga_threshold == 2.5
    assert (layer.b.array == 0.5).all()
    assert (layer.log_sigma2.array == -7).all()


@pytest.mark.parametrize("form", [L.Convolution2D, L.VariationalDropoutConvolution2D])
@pytest.mark.parametrize("arguments", [(None, 6, 3), (6, 3)])
def test_channels_from_the_first_batch(form, arguments):
    layer = form(*arguments, groups=2)
    assert (layer.in_channels, layer.out_channels) == (None, 6)
    assert layer(X).shape == (5, 6, 5, 4)
    assert layer.in_channels == 4
    assert layer.W.array.shape == (6, 2, 3, 3)
    assert {p.array.shape for p in layer.params()} == {(6, 2, 3, 3), (6,)}


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4, 3), {}, "`in_channels` must be a positive integer, got 0"),
        ((4, None, 3), {}, "`out_channels` must be a positive integer, got None"),
        ((4, 6, 0), {}, "`ksize` must be an integer of at least 1"),
        ((4, 6, 3), {"groups": 4}, "`groups` .* divides the 4 input and the 6 output"),
        ((None, 6, 3), {"groups": 4}, "`groups` .* 6 output"),
        ((4, 6, 3), {"dilate": 0}, "`dilate` must be an integer of at least 1"),
        ((4, 6, 3, -1), {}, "`stride` must be"),
    ],
)
@pytest.mark.parametrize("form", [L.Convolution2D, L.VariationalDropoutConvolution2D])
def test_bad_arguments(form, arguments, options, message):
    with pytest.raises(ValueError, match=message) as error:
        form(*arguments, **options)
    assert str(error.value).startswith(f"{form.__name__}: ")


def test_both_thresholds_are_an_error():
    with pytest.raises(ValueError, match="not both"):
        L.VariationalDropoutConvolution2D(1, 2, 3, p_threshold=0.95, loga_threshold=3.0)


def test_kernel_beyond_the_first_batch():
    layer = L.Convolution2D(None, 2, 9)
    with pytest.raises(ValueError, match=r"spans 9x9 pixels .* only 7x6"):
        layer(X)


def test_training_samples_the_output():
    layer = layer_of(rng=numpy.random.default_rng(9))
    state = layer.rng.bit_generator.state
    y = layer(X)
    layer.rng.bit_generator.state = state
    noise = layer.draw_noise(y.shape, like=X).astype(float)
    zero = numpy.zeros_like(B)
    variance = torch_convolution(X**2, numpy.exp(LOG_SIGMA2.astype(float)), zero)
    expected = torch_convolution(X, W, B) + numpy.sqrt(variance + 1e-8) * noise
    numpy.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert (layer(X) != y).any()


def test_testing_uses_the_kept_means_without_noise():
    la = LOG_SIGMA2 - numpy.log(W.astype(float) ** 2 + 1e-8)
    expected = torch_convolution(X, W * (la <= 3), B)
    for masked in (False, True):
        layer = layer_of(mask_in_training=masked)
        numpy.testing.assert_array_equal(layer.keep_mask(), la <= 3)
        with vdcore.using_config("train", False):
            numpy.testing.assert_allclose(layer(X), expected, rtol=1e-4, atol=1e-5)


def test_masked_weights_have_no_gradient():
    layer = layer_of(mask_in_training=True)
    t = numpy.zeros(5, int)
    compute_gradients(
        layer, lambda x: F.softmax_cross_entropy(F.flatten(layer(x)), t), X
    )
    noise = ~layer.keep_mask()
    assert 0.1 < noise.mean() < 0.9
    for parameter in (layer.W, layer.log_sigma2):
        assert not parameter.grad[noise].any()
        assert parameter.grad[~noise].all()


def test_penalty_is_that_of_the_weights():
    ours, _ = layer_of().penalty(0.5)
    flat = L.VariationalDropoutLinear(
        12, 6, initialW=W.reshape(6, 12), initial_log_sigma2=LOG_SIGMA2.reshape(6, 12)
    )
    theirs, _ = flat.penalty(0.5)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


@pytest.mark.parametrize("nobias", [False, True])
def test_from_a_plain_layer(nobias):
    plain = L.Convolution2D(
        4, 6, (3, 2), initialW=W, initial_bias=B, nobias=nobias, **GEOMETRY
    )
    layer = L.VariationalDropoutConvolution2D.from_link(plain, initial_log_sigma2=-12)
    assert layer.window == plain.window
    assert layer.groups == 2
    assert (layer.b is None) is nobias
    assert (layer.log_sigma2.array == -12).all()
    with vdcore.using_config("train", False):
        numpy.testing.assert_array_equal(layer(X), plain(X))
    layer.W.array[...] = 0
    assert (plain.W.array == W).all()


def test_from_a_plain_layer_without_shape():
    plain = L.Convolution2D(None, 6, 3, groups=2)
    layer = L.VariationalDropoutConvolution2D.from_link(plain)
    assert layer.in_channels is None
    assert layer(X).shape == (5, 6, 5, 4)


def test_save_and_load(tmp_path):
    layer = layer_of()
    serializers.save_npz(tmp_path / "layer.npz", layer)
    other = L.VariationalDropoutConvolution2D(4, 6, (3, 2), **GEOMETRY)
    serializers.load_npz(tmp_path / "layer.npz", other)
    for ours, theirs in zip(layer.params(), other.params(), strict=True):
        numpy.testing.assert_array_equal(ours.array, theirs.array)


def test_sizes():
    size = layer_of().layer_size("conv")
    assert (size.weights, size.others, size.outputs) == (72, 6, 6)
    assert size.weights_kept == int(layer_of().keep_mask().sum())


@pytest.mark.parametrize("batch", [3, 40])  # by NumPy, compiled where it can be
def test_training_reduces_the_loss(batch):
    rng = numpy.random.default_rng(0)
    t = rng.integers(0, 2, batch)
    x = rng.standard_normal((batch, 1, 8, 8)).astype(numpy.float32)
    x[t == 1, :, 2:5, 2:5] += 2

    class Net(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=batch, warm_up=0)
            self.kl_coef = 0.0
            with self.init_scope():
                self.conv = L.VariationalDropoutConvolution2D(1, 4, 3, pad=1)
                self.fc = L.VariationalDropoutLinear(64, 2)

        def forward(self, x):
            return self.fc(F.max_pooling_2d(F.relu(self.conv(x)), 2))

    model = Net()
    optimizer = optimizers.Adam(0.01).setup(model)
    first = float(model.calc_loss(x, t))
    for _ in range(40):
        optimizer.update(model.calc_loss, x, t)
    assert float(model.calc_loss(x, t)) < 0.3 * first
