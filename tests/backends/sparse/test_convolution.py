"""Compiled sparse convolutional networks give what float64 gives."""

from __future__ import annotations

import math
import threading

import numpy
import pytest
from scipy.sparse import csr_array

from vdcore.backends.cpu.jit import jit, numba_or_none

if numba_or_none() is None:
    pytest.skip("numba is not installed, or switched off", allow_module_level=True)

from vdcore.backends.sparse import convolution as convolution_module
from vdcore.backends.sparse.convolution import block_size, compiled_images
from vdcore.backends.sparse.image_layout import operations
from vdcore.backends.sparse.image_program import build, tiling
from vdcore.backends.sparse.images import Convolution, Flatten, Pooling
from vdcore.backends.sparse.layer import Activation, Layer
from vdcore.backends.sparse.tiles import TILES, WIDTH, tile
from vdcore.windows import Window

f4 = numpy.float32
BATCHES = (0, 1, 2, 15, 16, 17, 33)
FUNCTIONS = {
    "identity": lambda h: h,
    "relu": lambda h: numpy.where(h < 0, 0, h),
    "tanh": numpy.tanh,
    "sigmoid": lambda h: 1 / (1 + numpy.exp(-h)),
    "softmax": lambda h: numpy.exp(h) / numpy.exp(h).sum(axis=1, keepdims=True),
}


def weights(rng, rows, columns, density):
    W = rng.standard_normal((rows, columns), dtype=f4)
    return csr_array(W * (rng.random(W.shape) < density))


def convolution(
    rng, inputs, outputs, size, density=0.3, activation="identity", bias=None, **window
):
    window = Window(size, **window)
    W = weights(rng, outputs, inputs * math.prod(size), density)
    b = rng.standard_normal(outputs, dtype=f4) if bias is None else bias
    return Convolution("", W, b, activation, window=window)


def affine(rng, inputs, outputs, density=0.3, activation="identity"):
    b = rng.standard_normal(outputs, dtype=f4)
    return Layer("", weights(rng, outputs, inputs, density), b, activation)


def reference(layers, in_shape, x):
    """The layers in double precision, window element by window element."""
    h = x.reshape(len(x), *in_shape).astype(numpy.float64)
    for layer in layers:
        if isinstance(layer, Convolution):
            h = convolved(layer, h)
        elif isinstance(layer, Pooling):
            h = pooled(layer, h)
        elif isinstance(layer, Layer):
            h = flat(h) @ layer.W.toarray().T.astype(float) + layer.b
        elif isinstance(layer, Flatten):
            h = flat(h)
        h = FUNCTIONS[layer.activation](h)
    return flat(h)


def flat(h):
    return h.reshape(len(h), math.prod(h.shape[1:]))


def met(h, window, shape, fill):
    (top, left), positions = window.pad, shape
    extra = [
        (count - 1) * stride + extent
        for count, stride, extent in zip(
            positions, window.stride, window.extent, strict=True
        )
    ]
    margins = ((0, 0), (0, 0), (top, top + extra[0]), (left, left + extra[1]))
    image = numpy.pad(h, margins, constant_values=fill)
    for rows, columns in window.elements(positions):
        yield image[:, :, rows, columns]


def convolved(layer, h):
    shape = layer.out_shape(h.shape[1:])
    elements = math.prod(layer.window.size)
    W = layer.W.toarray().astype(float).reshape(len(layer.b), h.shape[1], elements)
    b = layer.b.reshape(len(layer.b), *((1, 1) if layer.b.ndim == 1 else shape[1:]))
    y = numpy.zeros((len(h), *shape)) + b
    for k, pixels in enumerate(met(h, layer.window, shape[1:], 0)):
        for o, c in zip(*numpy.nonzero(W[:, :, k]), strict=True):
            y[:, o] += W[o, c, k] * pixels[:, c]
    return y


def pooled(layer, h):
    shape = layer.out_shape(h.shape[1:])[1:]
    largest = layer.kind == "max"
    parts = numpy.stack([*met(h, layer.window, shape, -math.inf if largest else 0)])
    return parts.max(axis=0) if largest else parts.mean(axis=0)


def check(layers, in_shape, rng, batches=BATCHES, threads=2):
    predict = compiled_images(layers, in_shape, threads)
    for batch in batches:
        x = rng.standard_normal((batch, math.prod(in_shape)), dtype=f4)
        expected = reference(layers, in_shape, x)
        for _ in range(2):  # in memory that was used before, too
            y = predict(x)
            assert y.dtype == f4
            assert y.flags.c_contiguous
            scale = max(1, abs(expected).max(initial=0))
            numpy.testing.assert_allclose(y / scale, expected / scale, atol=2e-6)


@pytest.fixture(params=[1, 4, 8, WIDTH])
def lanes(request, monkeypatch):
    """Every number of examples in a block, whatever is fastest."""
    for name in ("VECTOR_TIMES", "NUMBER_TIMES"):
        monkeypatch.setattr(convolution_module, name, {request.param: 1.0})
    return request.param


# Tiles


@jit(cache=False)
def one_tile(count, source, indices, values, bias, step, keep, floor, target):
    number = values.size
    tile(
        count, source, 3, indices, values, 0, number, bias, 1, step, keep, 2, floor,
        numpy.float32(-7), target, 5,
    )  # fmt: skip


@pytest.mark.parametrize("count", TILES)
def test_tiles(rng, count):
    size = count * WIDTH
    source = rng.standard_normal(size + 100, dtype=f4)
    keep = (rng.random(size + 2) < 0.8).astype(f4)
    bias = rng.standard_normal(size + 1, dtype=f4)
    for number in range(10):
        for step, floor in ((0, 0), (WIDTH, -math.inf)):
            indices = rng.integers(0, 97, number).astype(numpy.uint32)
            values = rng.standard_normal(number, dtype=f4)
            target = numpy.full(size + 10, 5, f4)
            one_tile(
                count, source, indices, values, bias, step, keep, f4(floor), target
            )
            total = bias[1:].astype(float) if step else numpy.tile(bias[1:17], count)
            total = total + sum(
                value * source[3 + at : 3 + at + size].astype(float)
                for value, at in zip(values, indices, strict=True)
            )
            total = numpy.where(keep[2:] > 0, numpy.maximum(total, floor), -7)
            numpy.testing.assert_allclose(target[5 : size + 5], total, atol=1e-5)
            assert (target[:5] == 5).all()
            assert (target[size + 5 :] == 5).all()


def test_tiling_is_one_of_the_tiles_and_no_longer_than_the_run():
    for count in range(1, 200):
        length, _ = tiling(count)
        assert length in TILES
        assert length <= count


# Layers


@pytest.mark.parametrize("height", [1, 2, 3, 7, 40])
def test_images_of_any_size(rng, lanes, height):
    for width in (1, 2, 3, 4, 5, 8, 13, 16, 17, 24, 31, 40):
        size = (min(3, height), min(3, width))
        pad = tuple(int(rng.integers(0, 2)) for _ in size)
        layers = [
            convolution(rng, 2, 3, size, pad=pad, activation="relu"),
            convolution(rng, 3, 2, (1, 1)),
        ]
        check(layers, (2, height, width), rng, batches=(1, 17))


@pytest.mark.parametrize(
    "window",
    [
        {"size": (1, 1)},
        {"size": (5, 5)},
        {"size": (2, 3), "pad": (1, 2)},
        {"size": (3, 3), "pad": (4, 3)},
        {"size": (3, 3), "stride": (2, 2), "pad": (1, 1)},
        {"size": (1, 1), "stride": (3, 2)},
        {"size": (2, 4), "stride": (1, 3), "pad": (0, 3)},
        {"size": (3, 2), "dilate": (2, 3), "pad": (2, 0)},
        {"size": (3, 3), "dilate": (2, 1), "stride": (3, 2), "pad": (2, 5)},
        {"size": (11, 9)},
    ],
)
def test_windows(rng, lanes, window):
    layers = [
        convolution(rng, 3, 5, **window, activation="relu"),
        convolution(rng, 5, 4, (1, 1)),
    ]
    check(layers, (3, 11, 9), rng)
    check(layers[::-1][1:], (3, 11, 9), rng)


def test_windows_after_one_another(rng, lanes):
    """Each with a margin of its own around the images that it takes."""
    layers = [
        convolution(rng, 2, 4, (5, 5), pad=(2, 2), activation="relu"),
        convolution(rng, 4, 4, (3, 3), activation="relu"),
        convolution(rng, 4, 3, (1, 5), pad=(3, 4)),
        convolution(rng, 3, 3, (3, 3), stride=(2, 2), pad=(1, 1)),
        convolution(rng, 3, 3, (3, 3), pad=(1, 1), activation="relu"),
        Pooling("", "max", Window((3, 3), (2, 2), (1, 1))),
        convolution(rng, 3, 2, (3, 3), pad=(1, 1)),
        affine(rng, 2 * 4 * 3, 7, activation="relu"),
        affine(rng, 7, 4),
    ]
    check(layers, (2, 10, 9), rng)


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "sigmoid"])
def test_activations_leave_the_margins_alone(rng, lanes, activation):
    layers = [
        Activation("", activation),
        convolution(rng, 2, 3, (3, 3), pad=(1, 1), activation=activation),
        Pooling("", "average", Window((2, 2), (1, 1), (1, 1))),
        Activation("", activation),
        convolution(rng, 3, 2, (3, 3), pad=(1, 1), activation=activation),
        affine(rng, 2 * 36, 3, activation=activation),
    ]
    check(layers, (2, 5, 5), rng)


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize(
    ("window", "cover_all"),
    [
        (Window((2, 2), (2, 2)), False),
        (Window((2, 2), (2, 2)), True),
        (Window((3, 3), (2, 2), (1, 1)), True),
        (Window((3, 2), (1, 1), (2, 1)), False),
        (Window((3, 4), (3, 4)), True),
        (Window((2, 3), (3, 2)), False),
    ],
)
def test_poolings(rng, lanes, kind, window, cover_all):
    if kind == "average":
        cover_all = False
    for shape in ((2, 5, 7), (3, 9, 36), (2, 3, 4)):
        layers = [
            Pooling("", kind, window, cover_all),
            convolution(rng, shape[0], 2, (1, 1), pad=(1, 1)),
        ]
        check(layers, shape, rng, batches=(1, 5, 17))
        after = [convolution(rng, shape[0], 4, (1, 1)), layers[0], Flatten("")]
        check(after, shape, rng, batches=(1, 17))


def test_means_of_whole_images(rng, lanes):
    layers = [
        convolution(rng, 2, 4, (3, 3), pad=(1, 1)),
        Pooling("", "average", Window((8, 6), (8, 6))),
        Flatten(""),
        Activation("", "softmax"),
    ]
    check(layers, (2, 8, 6), rng)


def test_channels_without_weights(rng, lanes):
    layers = [
        convolution(rng, 2, 9, (3, 3), 0.05, pad=(1, 1), activation="relu"),
        convolution(rng, 9, 3, (3, 3), 0.0, activation="relu"),
        convolution(rng, 3, 2, (2, 2), 0.5),
    ]
    check(layers, (2, 6, 6), rng)
    none = [convolution(rng, 2, 3, (3, 3), 0.0), affine(rng, 48, 3, 0.0)]
    check(none, (2, 6, 6), rng)


def test_layers_without_channels(rng, lanes):
    """What is left of layers before one that is a constant."""
    layers = [
        convolution(rng, 2, 0, (3, 3), pad=(1, 1)),
        Pooling("", "max", Window((2, 2), (2, 2))),
        convolution(rng, 0, 3, (3, 3)),
    ]
    check(layers, (2, 6, 6), rng)


@pytest.mark.parametrize("stride", [1, 2])
def test_biases_may_be_images(rng, lanes, stride):
    size = 7 if stride == 1 else 4
    bias = rng.standard_normal((5, size, size), dtype=f4)
    layers = [
        convolution(
            rng, 2, 5, (3, 3), bias=bias, pad=(1, 1), stride=(stride, stride),
            activation="relu",
        ),
        convolution(rng, 5, 3, (3, 3), pad=(1, 1)),
    ]  # fmt: skip
    check(layers, (2, 7, 7), rng)
    check(layers[:1], (2, 7, 7), rng)


def test_nan_and_infinity_reach_what_depends_on_them_only(rng, lanes):
    layers = [
        convolution(rng, 1, 2, (3, 3), 1.0, pad=(1, 1), activation="relu"),
        Pooling("", "max", Window((2, 2), (2, 2))),
    ]
    x = rng.standard_normal((17, 1, 6, 8), dtype=f4)
    x[3, 0, 0, 7] = numpy.nan
    y = compiled_images(layers, (1, 6, 8), 2)(x.reshape(17, -1)).reshape(17, 2, 3, 4)
    expected = numpy.zeros(y.shape, bool)
    expected[3, :, 0, 3] = True
    numpy.testing.assert_array_equal(numpy.isnan(y), expected)
    x[3, 0, 0, 7] = numpy.inf
    y = compiled_images(layers, (1, 6, 8), 2)(x.reshape(17, -1)).reshape(17, 2, 3, 4)
    assert numpy.isfinite(y).sum() >= y.size - 2


# Threads and blocks


def wide_network(rng):
    """Work enough to be shared within a layer."""
    return [
        convolution(rng, 16, 32, (3, 3), 0.3, pad=(1, 1), activation="relu"),
        Pooling("", "max", Window((2, 2), (2, 2))),
        convolution(rng, 32, 48, (3, 3), 0.3, pad=(1, 1), activation="tanh"),
        affine(rng, 48 * 64, 20, 0.5),
    ], (16, 16, 16)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_blocks_or_layers(rng, lanes, threads):
    layers, in_shape = wide_network(rng)
    program, _ = build(operations(layers, in_shape), lanes, threads)
    assert program.steps["shared"].any() == (threads > 1)
    check(layers, in_shape, rng, batches=(1, 16, 33), threads=threads)


def test_several_callers_at_once(rng):
    layers, in_shape = wide_network(rng)
    predict = compiled_images(layers, in_shape, 2)
    xs = [
        rng.standard_normal((batch, math.prod(in_shape)), dtype=f4)
        for batch in (1, 3, 17, 40)
    ]
    expected = [reference(layers, in_shape, x) for x in xs]
    failures = []

    def call(x, y):
        for _ in range(20):
            if not numpy.allclose(predict(x), y, rtol=1e-4, atol=1e-4):
                failures.append(len(x))

    callers = [
        threading.Thread(target=call, args=pair)
        for pair in zip(xs, expected, strict=True)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_memory_does_not_grow_with_the_batch(rng, monkeypatch):
    layers, in_shape = wide_network(rng)
    taken = []
    aligned = convolution_module._aligned

    def recorded(shape):
        taken.append(math.prod(shape))
        return aligned(shape)

    monkeypatch.setattr(convolution_module, "_aligned", recorded)
    predict = compiled_images(layers, in_shape, 2)
    for batch in (64, 1024):
        predict(rng.standard_normal((batch, math.prod(in_shape)), dtype=f4))
    assert sum(taken) < 2 * 2 * 16 * (16 * 400 + 32 * 400 + 1000)


def test_read_only_and_empty_batches(rng):
    layers, in_shape = wide_network(rng)
    predict = compiled_images(layers, in_shape, 2)
    x = rng.standard_normal((3, math.prod(in_shape)), dtype=f4)
    before = x.copy()
    expected = predict(x)
    x.flags.writeable = False
    numpy.testing.assert_array_equal(predict(x), expected)
    numpy.testing.assert_array_equal(x, before)
    assert predict(x[:0]).shape == (0, 20)


def test_blocks_are_of_many_examples_where_images_are_small(rng):
    small = operations([convolution(rng, 64, 64, (3, 3), pad=(1, 1))], (64, 2, 2))
    assert block_size(small, 1, 2) == 1
    assert block_size(small, 128, 2) == WIDTH
    assert block_size(small, 16, 2) > 1


def test_blocks_of_large_images_are_of_one(rng):
    large = operations([convolution(rng, 3, 64, (3, 3), pad=(1, 1))], (3, 300, 300))
    assert block_size(large, 128, 2) == 1
