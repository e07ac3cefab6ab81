"""Sparse models of images answer as the chains that they are made from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import vdcore
from vdcore import Sequential
from vdcore import functions as F
from vdcore import links as L
from vdcore.backends import sparse_backend
from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse.layer import WeightedStage
from vdcore.backends.sparse.shrink import shrink
from vdcore.backends.sparse_backend import (
    Convolution,
    Flatten,
    Layer,
    Pooling,
    SparseModel,
    to_cpu_sparse,
)
from vdcore.files import FileFormatError
from vdcore.windows import Window

ROOT = Path(__file__).resolve().parents[3]
f4 = numpy.float32
CONVOLUTIONS = (L.Convolution2D, L.VariationalDropoutConvolution2D)

needs_numba = pytest.mark.skipif(
    numba_or_none() is None, reason="numba is not installed"
)


FORMATS = ("dense", "csr", pytest.param("compiled", marks=needs_numba), None)


@pytest.fixture(params=[pytest.param("compiled", marks=needs_numba), "csr"])
def runtime(request, monkeypatch):
    if request.param == "csr":
        monkeypatch.setenv("VDCORE_NUMBA", "0")
    return request.param


def randomize(model, rng, density=0.2):
    """Give a model random weights, of which variational layers prune some."""
    for link in model.links():
        if isinstance(link, L.BatchNormalization):
            size = link.avg_mean.shape
            link.avg_mean = rng.standard_normal(size, dtype=f4)
            link.avg_var = rng.uniform(0.2, 3, size).astype(f4)
            for parameter in (link.gamma, link.beta):
                if parameter is not None:
                    parameter.array = rng.standard_normal(size, dtype=f4)
        if isinstance(link, (L.Linear, L.Convolution2D)):
            shape = link.W.array.shape
            kept = density if isinstance(link, L.VariationalLink) else 1
            scale = f4(1 / math.sqrt(kept * math.prod(shape[1:])))
            link.W.array = rng.standard_normal(shape, dtype=f4) * scale
            if link.b is not None:
                link.b.array = rng.standard_normal(shape[0], dtype=f4) * f4(0.5)
        if isinstance(link, L.VariationalLink):
            keep(link, rng.random(shape) < density)
    return model


def keep(link, mask):
    """Have a variational layer prune all weights that a mask does not keep."""
    link.log_sigma2.array = numpy.where(mask, f4(-40), f4(20))
    assert (link.keep_mask() == mask).all()


def answers(model, x):
    with vdcore.using_config("train", False):
        return model(x)


def check(model, in_shape, rng, batches=(1, 2, 17), **options):
    """The sparse model, as made and from a file's arrays, is the chain's equal."""
    sparse = to_cpu_sparse(model, in_shape, **options)
    for batch in batches:
        x = rng.standard_normal((batch, *in_shape), dtype=f4)
        expected = answers(model, x)
        y = sparse.predict(x)
        assert y.dtype == f4
        assert y.flags.c_contiguous
        assert y.shape == expected.shape
        limit = 2e-5 * max(1, abs(expected).max())
        numpy.testing.assert_allclose(y, expected, rtol=1e-5, atol=limit)
        numpy.testing.assert_array_equal(
            sparse.predict(x.reshape(batch, -1)), y, strict=True
        )
    return sparse


def lenet5(convolution=L.VariationalDropoutConvolution2D, rectified=False):
    linear = L.VariationalDropoutLinear
    if convolution is L.Convolution2D:
        linear = L.Linear
    relu = [F.relu] if rectified else []
    return Sequential(
        convolution(1, 20, 5),
        *relu,
        lambda x: F.max_pooling_2d(x, 2),
        convolution(20, 50, 5),
        *relu,
        lambda x: F.max_pooling_2d(x, 2),
        linear(800, 500),
        F.relu,
        linear(500, 10),
    )


# The answers


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("density", [0.02, 0.3])
def test_lenet5(runtime, rng, rectified, density):
    model = randomize(lenet5(rectified=rectified), rng, density)
    sparse = check(model, (1, 28, 28), rng, batches=(1, 2, 16, 17, 128))
    assert sparse.in_shape == (1, 28, 28)
    assert (sparse.in_size, sparse.out_size) == (784, 10)
    assert [layer.size for layer in sparse.layers if layer.size] == [
        *(500, 25_000, 400_000, 5_000)
    ]


@pytest.mark.parametrize("formats", FORMATS)
def test_plain_lenet5(rng, formats):
    model = randomize(lenet5(L.Convolution2D), rng)
    sparse = check(model, (1, 28, 28), rng, formats=formats)
    if formats:
        assert sparse.formats == [formats, "", formats, "", formats, formats]


def test_blocks_of_vgg(runtime, rng):
    class Block(vdcore.Chain):
        def __init__(self, inputs, outputs, ratio):
            super().__init__()
            self.ratio = ratio
            with self.init_scope():
                self.conv = L.VariationalDropoutConvolution2D(
                    inputs, outputs, 3, pad=1, nobias=True
                )
                self.bn = L.BatchNormalization(outputs, eps=1e-3)

        def forward(self, x):
            return F.dropout(F.relu(self.bn(self.conv(x))), self.ratio)

    model = Sequential(
        Block(3, 8, 0.3),
        Block(8, 8, 0.0),
        lambda x: F.max_pooling_2d(x, 2, stride=2),
        Block(8, 12, 0.4),
        lambda x: F.max_pooling_2d(x, 2, stride=2),
        L.Dropout(0.5),
        L.VariationalDropoutLinear(12 * 4 * 4, 16, nobias=True),
        L.BatchNormalization(16),
        F.relu,
        L.Linear(16, 10, nobias=True),
        F.softmax,
    )
    sparse = check(randomize(model, rng), (3, 16, 16), rng, batches=(1, 16, 128))
    assert [type(layer) for layer in sparse.layers] == [
        *(Convolution, Convolution, Pooling, Convolution, Pooling, Layer, Layer)
    ]
    assert [layer.activation for layer in sparse.layers] == [
        *("relu", "relu", "identity", "relu", "identity", "relu", "softmax")
    ]
    assert sparse.layers[0].name == "0/conv"


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize(
    ("ksize", "options"),
    [
        (1, {}),
        (1, {"stride": 2}),
        ((2, 3), {}),
        (3, {"stride": 2, "pad": 1}),
        (3, {"stride": (3, 1), "pad": (0, 2)}),
        (3, {"dilate": 2, "pad": 2}),
        ((3, 2), {"dilate": (1, 3), "stride": (2, 1), "pad": (2, 0)}),
        (3, {"groups": 2}),
        (3, {"groups": 6, "pad": 1, "stride": 2}),
        ((7, 9), {}),
        (5, {"pad": 4, "stride": 5}),
    ],
)
@pytest.mark.parametrize("formats", FORMATS)
def test_windows(rng, convolution, ksize, options, formats):
    model = Sequential(
        convolution(6, 12, ksize, **options), F.relu, convolution(12, 5, 1)
    )
    sparse = check(randomize(model, rng), (6, 7, 9), rng, formats=formats)
    assert len(sparse.out_shape) == 3


@pytest.mark.parametrize(
    ("pooling", "arguments"),
    [
        (F.max_pooling_2d, {"ksize": 2}),
        (F.max_pooling_2d, {"ksize": 2, "cover_all": False}),
        (F.max_pooling_2d, {"ksize": 3, "stride": 2, "pad": 1}),
        (F.max_pooling_2d, {"ksize": 3, "stride": 2, "pad": 1, "cover_all": False}),
        (F.max_pooling_2d, {"ksize": (2, 3), "stride": (1, 2)}),
        (F.average_pooling_2d, {"ksize": 2}),
        (F.average_pooling_2d, {"ksize": 3, "stride": 2, "pad": 1}),
        (F.average_pooling_2d, {"ksize": (7, 9)}),
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_poolings(runtime, rng, pooling, arguments, after):
    """With the activation before or after, and negative numbers at the border."""
    order = [F.sigmoid, lambda x: pooling(x, **arguments)]
    model = Sequential(
        L.VariationalDropoutConvolution2D(3, 4, 1),
        *order[:: -1 if after else 1],
        F.flatten,
    )
    sparse = check(randomize(model, rng, 0.4), (3, 7, 9), rng)
    assert isinstance(sparse.layers[-1], Flatten)


def test_activations_in_any_order(runtime, rng):
    model = Sequential(
        F.tanh,
        L.Convolution2D(2, 3, 3),
        F.relu,
        F.sigmoid,
        lambda x: F.max_pooling_2d(x, 2),
        F.tanh,
        F.flatten,
        F.sigmoid,
        L.Linear(12, 5),
        F.relu,
        F.tanh,
        F.softmax,
    )
    check(randomize(model, rng), (2, 6, 5), rng)


def test_single_pixels_and_lines(runtime, rng):
    for shape in ((1, 1, 1), (2, 1, 9), (2, 9, 1)):
        model = Sequential(
            L.Convolution2D(shape[0], 3, 3, pad=1), F.relu, L.Linear(None, 4)
        )
        answers(model, numpy.zeros((1, *shape), f4))
        check(randomize(model, rng), shape, rng)


def test_fully_convolutional(runtime, rng):
    model = Sequential(
        L.VariationalDropoutConvolution2D(3, 8, 3, pad=1),
        F.relu,
        L.VariationalDropoutConvolution2D(8, 5, 1),
        lambda x: F.average_pooling_2d(x, 6),
        F.flatten,
        F.softmax,
    )
    sparse = check(randomize(model, rng), (3, 6, 6), rng)
    assert sparse.out_shape == (5,)


def test_large_batches_go_in_blocks(rng, monkeypatch):
    model = randomize(lenet5(), rng, 0.05)
    monkeypatch.setenv("VDCORE_NUMBA", "0")
    monkeypatch.setattr("vdcore.backends.sparse.products.UNFOLDED", 200_000)
    check(model, (1, 28, 28), rng, batches=(1, 5, 300))


def test_no_examples(runtime, rng):
    sparse = to_cpu_sparse(randomize(lenet5(), rng), (1, 28, 28))
    assert sparse.predict(numpy.zeros((0, 1, 28, 28), f4)).shape == (0, 10)


def test_input_stays_as_it_is(runtime, rng):
    model = Sequential(F.tanh, L.Convolution2D(2, 3, 3), F.flatten, F.relu)
    sparse = to_cpu_sparse(randomize(model, rng), (2, 4, 4))
    for batch in (1, 5):
        x = rng.standard_normal((batch, 2, 4, 4), dtype=f4)
        before = x.copy()
        sparse.predict(x)
        numpy.testing.assert_array_equal(x, before)


def test_nan_of_one_example_stays_and_stays_alone(runtime, rng):
    sparse = to_cpu_sparse(randomize(lenet5(rectified=True), rng, 0.3), (1, 28, 28))
    x = rng.standard_normal((5, 1, 28, 28), dtype=f4)
    clean = sparse(x)
    x[1] = numpy.nan
    y = sparse(x)
    assert numpy.isnan(y[1]).all()
    numpy.testing.assert_array_equal(y[[0, 2, 3, 4]], clean[[0, 2, 3, 4]])


def test_torch_agrees(runtime, rng, torch):
    """An independent source of the answers."""
    model = Sequential(
        L.VariationalDropoutConvolution2D(3, 8, 3, stride=2, pad=1, dilate=2),
        L.BatchNormalization(8, eps=1e-3),
        F.relu,
        lambda x: F.average_pooling_2d(x, 3, stride=2, pad=1),
        L.VariationalDropoutConvolution2D(8, 6, 3, pad=1, groups=2),
        F.tanh,
        lambda x: F.max_pooling_2d(x, 2, cover_all=False),
        L.VariationalDropoutLinear(6 * 2 * 2, 4),
    )
    randomize(model, rng, 0.4)
    x = rng.standard_normal((5, 3, 19, 17), dtype=f4)
    first, norm, second, last = list(model)
    to, functional = torch.from_numpy, torch.nn.functional

    def weights(link):
        return to(numpy.asarray(link.masked_W())), to(link.b.array)

    h = functional.conv2d(to(x), *weights(first), stride=2, padding=1, dilation=2)
    statistics = (norm.avg_mean, norm.avg_var, norm.gamma.array, norm.beta.array)
    h = functional.batch_norm(h, *map(to, statistics), eps=1e-3).relu()
    h = functional.avg_pool2d(h, 3, 2, 1)
    h = functional.conv2d(h, *weights(second), padding=1, groups=2).tanh()
    h = functional.max_pool2d(h, 2).flatten(1)
    expected = functional.linear(h, *weights(last)).numpy()
    y = to_cpu_sparse(model, (3, 19, 17)).predict(x)
    numpy.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


# Batch normalisation


@pytest.mark.parametrize("options", [{}, {"use_gamma": False}, {"use_beta": False}])
def test_batch_normalization_goes_into_the_layer_before(rng, options):
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 4, 3),
        L.BatchNormalization(4, **options),
        L.BatchNormalization(4),
        L.VariationalDropoutLinear(4 * 3 * 3, 5, nobias=True),
        L.BatchNormalization(5),
    )
    sparse = check(randomize(model, rng), (2, 5, 5), rng)
    assert [type(layer) for layer in sparse.layers] == [Convolution, Layer]
    kept = [int(link.keep_mask().sum()) for link in model.links() if hasattr(link, "b")]
    assert [layer.kept for layer in sparse.layers] == kept


@pytest.mark.parametrize("pad", [0, 1])
def test_batch_normalization_elsewhere_is_a_layer(runtime, rng, pad):
    """At the input, before padding, after a pooling and after an activation."""
    model = Sequential(
        L.BatchNormalization(2),
        L.Convolution2D(2, 4, 3, pad=pad),
        F.relu,
        L.BatchNormalization(4),
        lambda x: F.max_pooling_2d(x, 2),
        L.BatchNormalization(4),
        F.tanh,
        L.Convolution2D(4, 3, 1, pad=pad),
    )
    sparse = check(randomize(model, rng), (2, 6, 6), rng)
    names = [layer.name for layer in sparse.layers]
    assert names == ["0", "1", "2", "max_pooling_2d", "3", "4"]
    assert sparse.layers[0].groups == 2


def test_batch_normalization_goes_into_the_affine_layer_after(runtime, rng):
    model = Sequential(
        L.Convolution2D(2, 4, 3),
        F.relu,
        L.BatchNormalization(4),
        F.flatten,
        L.VariationalDropoutLinear(4 * 2 * 2, 5),
        F.relu,
        L.BatchNormalization(5),
        L.Linear(5, 3, nobias=True),
        F.relu,
        L.BatchNormalization(3),
        F.tanh,
    )
    sparse = check(randomize(model, rng, 0.5), (2, 4, 4), rng)
    assert [layer.name for layer in sparse.layers] == ["0", "2", "4", "5"]


def test_batch_normalization_at_the_input_of_vectors(runtime, rng):
    model = Sequential(L.BatchNormalization(6), F.relu, L.Linear(6, 3))
    check(randomize(model, rng), (6,), rng)
    sparse = to_cpu_sparse(Sequential(model[0], model[1]))
    assert [layer.name for layer in sparse.layers] == ["1"]


# What is left out


def test_dead_channels_beside_padding(runtime, rng):
    """Their constants count for less where a window reaches into the padding."""
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 6, 3, pad=1),
        F.sigmoid,
        L.VariationalDropoutConvolution2D(6, 5, 3, pad=2, stride=2),
        L.BatchNormalization(5),
        F.tanh,
        lambda x: F.average_pooling_2d(x, 3, stride=2, pad=1),
        L.VariationalDropoutConvolution2D(5, 4, (3, 1), pad=(1, 0)),
        lambda x: F.max_pooling_2d(x, 2),
        L.VariationalDropoutLinear(4 * 2 * 2, 3),
    )
    randomize(model, rng, 0.7)
    first, second = model[0], model[1]
    alive = numpy.asarray([True, False, False, True, False, True])
    keep(first, numpy.broadcast_to(alive[:, None, None, None], first.W.array.shape))
    mask = numpy.asarray(second.keep_mask()).copy()
    mask[0, alive] = False  # reads constants only
    keep(second, mask)
    sparse = check(model, (2, 9, 10), rng)
    one, two, _, three, *_ = sparse.shrunk
    assert one.W.shape == (3, 2 * 9)
    assert two.W.shape == (4, 3 * 9)
    assert two.b.ndim == 3
    assert three.W.shape == (4, 4 * 3)
    assert three.b.ndim == 3


def test_constants_without_padding_stay_numbers(rng):
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 6, 3),
        F.sigmoid,
        L.VariationalDropoutConvolution2D(6, 5, 3),
    )
    randomize(model, rng)
    keep(
        model[0],
        numpy.arange(6)[:, None, None, None] % 2 + numpy.zeros((1, 2, 3, 3)) > 0,
    )
    sparse = check(model, (2, 9, 9), rng)
    assert sparse.shrunk[0].W.shape == (3, 18)
    assert sparse.shrunk[1].b.shape == (5,)


def test_channels_that_nobody_reads(rng):
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 6, 3),
        F.relu,
        L.VariationalDropoutConvolution2D(6, 4, 3),
        lambda x: F.max_pooling_2d(x, 2),
        L.VariationalDropoutLinear(4 * 2 * 2, 7),
    )
    randomize(model, rng, 0.9)
    pixels = numpy.zeros((7, 4, 2, 2), bool)
    pixels[:, 2, 0, 1] = True  # one pixel of one channel
    keep(model[2], pixels.reshape(7, 16))
    mask = numpy.zeros((4, 6, 3, 3), bool)
    mask[2, [0, 3], 1, 1] = True
    keep(model[1], mask)
    sparse = check(model, (2, 8, 8), rng)
    shapes = [x.W.shape for x in sparse.shrunk if isinstance(x, WeightedStage)]
    assert shapes == [(2, 18), (1, 18), (7, 4)]
    assert sparse.summary().splitlines()[-1] == "architecture 6-4-16, left 2-1-1"


@pytest.mark.parametrize("emptied", [(0,), (1,), (2,), (3,), (0, 1, 2, 3)])
@pytest.mark.parametrize("formats", FORMATS)
def test_layer_without_weights_left_is_a_constant(rng, emptied, formats):
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 6, 3, pad=1),
        F.sigmoid,
        L.VariationalDropoutConvolution2D(6, 4, 3, pad=1),
        L.BatchNormalization(4),
        F.sigmoid,
        lambda x: F.average_pooling_2d(x, 2),
        L.VariationalDropoutLinear(4 * 3 * 3, 7),
        F.relu,
        L.VariationalDropoutLinear(7, 3),
    )
    randomize(model, rng, 0.5)
    for k in emptied:
        link = [each for each in model if isinstance(each, L.VariationalLink)][k]
        keep(link, numpy.zeros(link.W.array.shape, bool))
    sparse = check(model, (2, 6, 6), rng, formats=formats)
    y = sparse(rng.standard_normal((4, 2, 6, 6), dtype=f4))
    numpy.testing.assert_array_equal(y, numpy.broadcast_to(y[:1], y.shape))


def test_channels_of_groups(rng):
    """A group whose input is dead, and one that nobody reads."""
    model = Sequential(
        L.VariationalDropoutConvolution2D(2, 6, 1),
        F.sigmoid,
        L.VariationalDropoutConvolution2D(6, 6, 3, pad=1, groups=3),
        F.relu,
        L.VariationalDropoutConvolution2D(6, 3, 1),
    )
    randomize(model, rng, 0.9)
    mask = numpy.ones((6, 2, 1, 1), bool)
    mask[[0, 1, 2]] = False
    keep(model[0], mask)
    mask = numpy.ones((3, 6, 1, 1), bool)
    mask[:, [4, 5]] = False
    keep(model[2], mask)
    sparse = check(model, (2, 5, 5), rng)
    sizes = [(layer.W.shape[0], layer.groups) for layer in sparse.shrunk]
    assert sizes == [(1, 1), (2, 1), (3, 1)]


def test_shrinking_again_changes_nothing(rng):
    model = randomize(lenet5(rectified=True), rng, 0.01)
    sparse = to_cpu_sparse(model, (1, 28, 28))
    again = shrink(sparse.shrunk, (1, 28, 28))
    for before, after in zip(sparse.shrunk, again, strict=True):
        for name, array in before.arrays().items():
            numpy.testing.assert_array_equal(after.arrays()[name], array)


# Choices


def test_dense_formats_are_those_with_many_weights(runtime, rng):
    model = randomize(lenet5(), rng, 0.01)
    formats = to_cpu_sparse(model, (1, 28, 28)).formats
    assert formats[2] == runtime
    model = randomize(lenet5(), rng, 0.95)
    formats = to_cpu_sparse(model, (1, 28, 28), batch_size=128).formats
    assert formats[2] == ("dense" if runtime == "csr" else "compiled")
    assert formats[4] == "dense"


@pytest.mark.parametrize(
    ("formats", "text"),
    [
        ("bsr", r"layer `0` must be one of .*'csr', 'dense'\) here, got 'bsr'"),
        (["csr"], r"or one for each of the 6 layers, got 1 of them"),
        (["csr", "csr", "csr", "", "csr", "csr"], r"`max_pooling_2d` must be one of"),
    ],
)
def test_wrong_formats(rng, formats, text):
    model = randomize(lenet5(), rng)
    with pytest.raises(ValueError, match=f"SparseModel: `formats`.*{text}"):
        to_cpu_sparse(model, (1, 28, 28), formats=formats)


def test_summary_of_lenet5(rng):
    model = randomize(lenet5(), rng, 0.001)
    sparse = to_cpu_sparse(model, (1, 28, 28), formats="csr")
    head, one, *_, total, last = sparse.summary().splitlines()
    assert head.split()[:5] == ["layer", "stored", "computed", "shape", "left"]
    assert one.split()[:4] == ["0", "csr", "csr", "20x1x5x5"]
    kept = sum(int(link.keep_mask().sum()) for link in L.get_vd_links(model))
    assert total.split()[:4] == ["total", f"{kept:,}", "/", "430,500"]
    assert last.startswith("architecture 20-50-800-500, left ")
    left = [int(n) for n in last.rpartition(" ")[2].split("-")]
    assert len(left) == 4
    assert all(map(int.__lt__, left, (20, 50, 800, 500)))


# What it takes, and what it cannot


@pytest.mark.parametrize(
    "shape", [(2, 28, 28, 1), (2, 28, 28), (2, 1, 28), (2, 3, 28, 28), (784,)]
)
def test_wrong_input(rng, shape):
    sparse = to_cpu_sparse(randomize(lenet5(), rng), (1, 28, 28))
    expected = r"\(batch, 1, 28, 28\), or hold 784 .* got \(.*; images are \(channels"
    with pytest.raises(ValueError, match=expected):
        sparse.predict(numpy.zeros(shape, f4))


@pytest.mark.parametrize(
    ("layers", "in_shape", "text"),
    [
        ([L.Convolution2D(1, 2, 3)], None, "`0` takes images, .* pass `in_shape`"),
        ([L.Convolution2D(1, 2, 3)], (3, 8, 8), r"\(1, height, width\), no smaller"),
        ([L.Convolution2D(1, 2, 3)], (1, 2, 8), r"\(3, 3\), got shape \(1, 2, 8\)"),
        ([L.Convolution2D(1, 2, 3)], (64,), r"got shape \(64,\)"),
        (
            [L.Convolution2D(1, 2, 3), L.Linear(9, 4)],
            (1, 6, 6),
            r"`1` takes 9 numbers an example, got shape \(2, 4, 4\)",
        ),
        (
            [L.Convolution2D(1, 2, 3), L.BatchNormalization(3)],
            (1, 6, 6),
            r"`1` takes 3 channels, got shape \(2, 4, 4\)",
        ),
        (
            [L.Convolution2D(1, 2, 3), F.softmax],
            (1, 6, 6),
            r"feature vectors, .* softmax; got .* \(2, 4, 4\)",
        ),
        (
            [
                L.Convolution2D(1, 2, 3),
                lambda x: F.max_pooling_2d(x, 7, cover_all=False),
            ],
            (1, 6, 6),
            "max_pooling_2d: the window must fit",
        ),
    ],
)
def test_networks_that_do_not_fit(layers, in_shape, text):
    with pytest.raises(ValueError, match=text):
        to_cpu_sparse(Sequential(*layers), in_shape)


def test_layers_of_unknown_shape_are_refused():
    for link in (L.Convolution2D(None, 3, 3), L.BatchNormalization()):
        model = Sequential(link, L.Convolution2D(3, 3, 1))
        with pytest.raises(RuntimeError, match="`0` is not known yet; call the model"):
            to_cpu_sparse(model, (3, 5, 5))


@pytest.mark.parametrize("name", ["avg_mean", "avg_var"])
def test_broken_statistics_are_refused(name):
    norm = L.BatchNormalization(3)
    getattr(norm, name)[1] = numpy.nan
    model = Sequential(L.Convolution2D(1, 3, 1), norm)
    with pytest.raises(ValueError, match=f"1 of 3 values of `{name}` of layer `1`"):
        to_cpu_sparse(model, (1, 4, 4))


def test_layers_of_images_need_their_shape():
    layer = Convolution("c", numpy.ones((1, 1), f4), None, window=Window((1, 1)))
    with pytest.raises(ValueError, match=r"`in_shape` must be given .* \(1, 28, 28\)"):
        SparseModel([layer])


# Files


@pytest.fixture
def saved(rng, tmp_path):
    """A model of all kinds of layers, and its file."""
    model = Sequential(
        F.tanh,
        L.VariationalDropoutConvolution2D(2, 6, 3, pad=1),
        F.sigmoid,
        lambda x: F.max_pooling_2d(x, 2),
        L.Convolution2D(6, 4, 3, pad=1, groups=2),
        lambda x: F.average_pooling_2d(x, 2),
        F.flatten,
        F.softmax,
    )
    randomize(model, rng, 0.03)
    model = to_cpu_sparse(model, (2, 9, 9))
    model.save(tmp_path / "model.sparse")
    return model, tmp_path / "model.sparse"


def same(one, other):
    assert one.in_shape == other.in_shape
    for before, after in zip(one.layers, other.layers, strict=True):
        assert type(before) is type(after)
        assert (before.name, before.activation) == (after.name, after.activation)
        assert before.arrays().keys() == after.arrays().keys()
        for key, array in before.arrays().items():
            numpy.testing.assert_array_equal(after.arrays()[key], array, strict=True)


def test_saved_and_loaded(saved, rng):
    model, path = saved
    loaded = sparse_backend.load(path, threads=1, formats="csr")
    same(model, loaded)
    x = rng.standard_normal((5, 2, 9, 9), dtype=f4)
    numpy.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    assert loaded.summary().splitlines()[-1] == model.summary().splitlines()[-1]


@pytest.mark.parametrize("emptied", [False, True])
def test_shrunk_network_as_a_model_of_its_own(rng, tmp_path, emptied):
    model = randomize(lenet5(rectified=True), rng, 0.01)
    model[0].b.array += f4(1)
    if emptied:
        keep(model[1], numpy.zeros(model[1].W.array.shape, bool))
    whole = to_cpu_sparse(model, (1, 28, 28))
    small = whole.smaller()
    assert small.nbytes <= whole.nbytes
    small.save(tmp_path / "small.npz")
    loaded = sparse_backend.load(tmp_path / "small.npz")
    same(small, loaded)
    x = rng.standard_normal((5, 1, 28, 28), dtype=f4)
    numpy.testing.assert_allclose(loaded(x), answers(model, x), atol=1e-5)


def test_files_of_version_1_are_read(rng, tmp_path):
    model = randomize(Sequential(L.VariationalDropoutLinear(6, 4), F.relu), rng)
    sparse = to_cpu_sparse(model)
    path = tmp_path / "model.npz"
    sparse.save(path)

    def former(header):
        header["version"] = 1
        del header["in_shape"]
        for layer in header["layers"]:
            del layer["kind"]

    rewrite(path, {}, former)
    same(sparse, sparse_backend.load(path))


def test_loading_needs_numpy_and_scipy_only(saved, rng, runtime):
    model, path = saved
    x = rng.standard_normal((3, 2, 9, 9), dtype=f4)
    numpy.save(path.with_name("x.npy"), x)
    allowed = {"numpy", "scipy", "vdcore"} | (
        {"numba", "llvmlite"} if runtime == "compiled" else set()
    )
    program = f"""
import sys
allowed = {sorted(allowed)!r} + sorted(sys.stdlib_module_names)

class OnlyAllowed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed and not name.startswith("_"):
            raise ImportError(f"{{name}} is not for inference")

sys.meta_path.insert(0, OnlyAllowed())
import numpy
from vdcore.backends import sparse_backend
model = sparse_backend.load({str(path)!r})
numpy.save({str(path.with_name("y.npy"))!r}, model.predict(numpy.load(
    {str(path.with_name("x.npy"))!r})))
assert not any(name.startswith(("vdcore.links", "vdcore.functions")) for name in
               sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    y = numpy.load(path.with_name("y.npy"))
    numpy.testing.assert_allclose(y, model.predict(x), atol=1e-6)


def test_file_cut_short_at_any_length(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"load: `.*sparse` is (damaged|not)"):
            sparse_backend.load(path)


def test_damaged_bytes_are_noticed_or_do_no_harm(saved):
    model, path = saved
    whole = path.read_bytes()
    refused = 0
    for position in range(3, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            loaded = sparse_backend.load(path)
        except FileFormatError:
            refused += 1
            continue
        same(model, loaded)
    assert refused > len(whole) / 11 / 2


def rewrite(path, changes, header=None):
    """Change entries of a file; None takes one out."""
    with numpy.load(path) as archive:
        entries = {name: archive[name] for name in archive.files}
    if header:
        head = json.loads(str(entries["header"]))
        header(head)
        entries["header"] = numpy.asarray(json.dumps(head))
    entries |= changes
    with open(path, "wb") as file:  # savez adds a suffix to a path
        numpy.savez(file, **{k: v for k, v in entries.items() if v is not None})


# Layers: 0 activation, 1 sparse convolution, 2 pooling, 3 convolution of two groups,
# 4 average pooling, 5 flatten, 6 softmax.
@pytest.mark.parametrize(
    ("header", "text"),
    [
        (lambda h: h.pop("in_shape"), "is damaged"),
        (lambda h: h.update(in_shape=[2, 9]), "`0` to follow images of 2 channels"),
        (lambda h: h.update(in_shape=[2, 9, -9]), "an in_shape of positive integers"),
        (lambda h: h.update(in_shape=[3, 9, 9]), "`0` to follow images of 2 channels"),
        (lambda h: h.update(in_shape=[2, 1, 1]), "is damaged"),
        (lambda h: h["layers"][1].update(kind="attention"), "a known kind"),
        (lambda h: h["layers"][1].pop("window"), "is damaged"),
        (lambda h: h["layers"][1].update(window=[[3, 3], [1, 1]]), "is damaged"),
        (
            lambda h: h["layers"][1].update(window=[[3, 3], [0, 1], [1, 1], [1, 1]]),
            "`stride` must be",
        ),
        (
            lambda h: h["layers"][1].update(window=[[5, 3], [1, 1], [1, 1], [1, 1]]),
            "a window that divides 18 columns",
        ),
        (
            lambda h: h["layers"][1].update(window=[[3, 3], [1, 1], [0, 0], [9, 1]]),
            "images, with padding, of 19x3 pixels or more",
        ),
        (lambda h: h["layers"][1].update(activation="softmax"), "no softmax"),
        (lambda h: h["layers"][1].update(activation="gelu"), "a known activation"),
        (lambda h: h["layers"][3].update(groups=3), "groups that divide 4 outputs"),
        (lambda h: h["layers"][3].update(groups=0), "groups that divide"),
        (lambda h: h["layers"][3].update(groups=1), "follow images of 3 channels"),
        (lambda h: h["layers"][2].update(pooling="median"), "a known pooling"),
        (lambda h: h["layers"][4].update(cover_all=True), "a cover_all"),
        (
            lambda h: h["layers"][2].update(window=[[2, 2], [9, 9], [2, 2], [1, 1]]),
            "that each of its windows meets",
        ),
        (
            lambda h: h["layers"][2].update(window=[[2, 2], [1, 1], [0, 0], [2, 2]]),
            "no dilation",
        ),
        (lambda h: h["layers"].pop(5), "feature vectors, for it is a softmax"),
        (
            lambda h: h["layers"][0].update(activation="softmax"),
            "only the last layer has",
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
        ({"1/b": numpy.zeros((6, 9, 8), f4)}, "images that biases .* are for"),
        ({"1/b": numpy.zeros((6, 9), f4)}, r"b of shape \(6,\)"),
        ({"1/indptr": numpy.zeros(7, numpy.int32)}, "indptr that rises"),
        ({"3/W": numpy.zeros((4, 28), f4)}, r"W of shape \(4, 27\)"),
        ({"2/W": numpy.zeros((4, 28), f4)}, r"entries are those of the header"),
    ],
)
def test_damaged_entries_are_named(saved, changes, text):
    _, path = saved
    rewrite(path, changes)
    with pytest.raises(FileFormatError, match=text):
        sparse_backend.load(path)
