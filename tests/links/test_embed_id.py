"""Embeddings, plain and with a Gaussian posterior."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import initializers, optimizers, serializers
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients

IDS = numpy.asarray([[2, 0, 2], [1, 2, 0]])
W = numpy.asarray([[0.5, -1.0], [1e-3, 2.0], [1.0, 1e-4], [3.0, 4.0]])
LOG_SIGMA2 = numpy.asarray([[-2.0, 0.0], [-4.0, -9.0], [-3.0, -8.0], [9.0, 0.0]])
KEPT = numpy.asarray([[1, 1], [0, 1], [1, 0], [0, 1]], bool)  # log alpha at most 3


def layer_of(library=None, dtype="float64", **options):
    arrays = {"initialW": W.astype(dtype), "initial_log_sigma2": LOG_SIGMA2}
    arrays["initial_log_sigma2"] = LOG_SIGMA2.astype(dtype)
    link = L.VariationalDropoutEmbedID(4, 2, **arrays, **options)
    if library is not None:
        for parameter in link.params():
            parameter.array = library.asarray(parameter.array)
    return link


def test_plain(library):
    link = L.EmbedID(4, 2, W)
    assert [path for path, _ in link.namedparams()] == ["/W"]
    link.W.array = library.asarray(link.W.array)
    y = link(library.asarray(IDS))
    numpy.testing.assert_array_equal(to_numpy(y), W[IDS])
    assert tuple(link(library.asarray(IDS[0])).shape) == (3, 2)


def test_first_values():
    link = L.EmbedID(300, 50)
    assert link.W.array.dtype == numpy.float32
    assert link.W.array.var() == pytest.approx(1, rel=5 * math.sqrt(2 / 15000))
    link = L.VariationalDropoutEmbedID(300, 50, initializers.Uniform(0.1))
    assert 0.099 < abs(link.W.array).max() <= 0.1
    assert (link.log_sigma2.array == -10).all()
    assert link.log_sigma2.array.shape == (300, 50)
    assert (link.noise, link.loga_threshold, link.clip) == ("weights", 3.0, 8.0)
    assert not link.log_sigma2.decays


@pytest.mark.parametrize("cls", [L.EmbedID, L.VariationalDropoutEmbedID])
def test_bad_arguments(cls):
    for sizes, argument in (((0, 2), "in"), ((2, 0), "out"), ((2.5, 2), "in")):
        text = f"{cls.__name__}: `{argument}_size` must be a positive integer"
        with pytest.raises(ValueError, match=text):
            cls(*sizes)
    for ids, error, text in (
        (numpy.asarray([4]), ValueError, r"`ids` must lie in 0 \.\. 3 for 4 rows"),
        (numpy.asarray([-1]), ValueError, r"`ids` must lie in 0 \.\. 3 for 4 rows"),
        (numpy.asarray([1.0]), TypeError, "`ids` must hold integer row numbers"),
        (numpy.zeros((0, 2), int), ValueError, r"must hold a number, got shape \(0, 2"),
        ([1], TypeError, "embed_id: `ids` must be an array, got list"),
    ):
        for train in (True, False):
            with (
                vdcore.using_config("train", train),
                pytest.raises(error, match=text),
            ):
                cls(4, 2)(ids)


def test_bad_rule():
    text = "VariationalDropoutEmbedID: `noise` must be 'weights' or 'activations', got"
    with pytest.raises(ValueError, match=text):
        L.VariationalDropoutEmbedID(4, 2, noise="rows")


def deviations(link, ids, library):
    """What a call adds to the means, in standard deviations."""
    y = to_numpy(link(library.asarray(ids)))
    return (y - W[ids]) / numpy.exp(LOG_SIGMA2[ids] / 2)


def test_one_draw_for_each_word_of_a_call(tape_library):
    link = layer_of(tape_library)
    noise = deviations(link, IDS, tape_library)
    flat, words = noise.reshape(6, 2), IDS.ravel()
    for word in range(3):
        places = flat[words == word]
        numpy.testing.assert_allclose(places, places[:1] + 0 * places, atol=1e-9)
    distinct = numpy.concatenate([flat[words == word][0] for word in range(3)])
    assert len(set(distinct.round(6))) == 6
    again = deviations(link, IDS, tape_library)
    assert (abs(again - noise) > 1e-6).all()


def test_one_draw_for_each_place(tape_library):
    link = layer_of(tape_library, noise="activations")
    noise = deviations(link, IDS, tape_library)
    assert len(set(noise.ravel().round(6))) == noise.size


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_moments(numpy_library, noise):
    ids = numpy.repeat(numpy.arange(4), 2)
    link = layer_of(noise=noise)
    draws = numpy.stack([deviations(link, ids, numpy_library) for _ in range(1000)])
    assert draws.mean() == pytest.approx(0, abs=5 * math.sqrt(2 / draws.size))
    assert draws.var() == pytest.approx(1, rel=5 * math.sqrt(4 / draws.size))


@pytest.mark.parametrize("noise", ["weights", "activations"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(tape_library, noise, masked):
    """By hand: sums over places of 1, and of the deviation from the mean / 2."""
    link = layer_of(tape_library, noise=noise, mask_in_training=masked)
    keep = KEPT if masked else numpy.ones_like(KEPT)
    held = {}

    def loss(mean, log_sigma2):
        link.W.array, link.log_sigma2.array = mean, log_sigma2
        y = link(tape_library.asarray(IDS))
        held["y"] = to_numpy(y)
        return array_namespace(y).sum(y)

    _, (gW, gs) = value_and_gradients(loss, [p.array for p in link.params()])
    expected_W, expected_s = numpy.zeros((2, 4, 2))
    numpy.testing.assert_array_equal(held["y"] == 0, ~keep[IDS])
    numpy.add.at(expected_W, IDS, keep[IDS])
    numpy.add.at(expected_s, IDS, (held["y"] - W[IDS]) / 2 * keep[IDS])
    numpy.testing.assert_allclose(to_numpy(gW), expected_W, rtol=1e-12)
    numpy.testing.assert_allclose(to_numpy(gs), expected_s, rtol=1e-9, atol=1e-12)
    assert (to_numpy(gW)[3] == 0).all()  # it does not occur


def test_testing_uses_the_kept_means_without_noise(library):
    for noise in ("weights", "activations"):
        link = layer_of(library, noise=noise)
        with vdcore.using_config("train", False):
            y = link(library.asarray(IDS))
        numpy.testing.assert_array_equal(to_numpy(y), (W * KEPT)[IDS])
        numpy.testing.assert_array_equal(to_numpy(link.masked_W()), W * KEPT)


def test_training_on_every_library(library):
    for dtype in ("float32", "float64"):
        for noise in ("weights", "activations"):
            link = layer_of(library, dtype, noise=noise)
            y = link(library.asarray(IDS.astype("int32")))
            assert type(y) is type(link.W.array)
            assert (y.dtype, tuple(y.shape)) == (link.W.array.dtype, (2, 3, 2))


def test_from_a_plain_link(tape_library):
    plain = L.EmbedID(4, 2, W)
    plain.W.array = tape_library.asarray(plain.W.array)
    link = L.VariationalDropoutEmbedID.from_link(
        plain, noise="activations", initial_log_sigma2=-8, kl="exact"
    )
    assert (link.noise, link.kl, link.in_size, link.out_size) == (
        "activations", "exact", 4, 2,
    )  # fmt: skip
    assert type(link.W.array) is type(link.log_sigma2.array) is type(plain.W.array)
    assert link.log_sigma2.array.dtype == link.W.array.dtype
    numpy.testing.assert_array_equal(to_numpy(link.W.array), W)
    assert link.W.array is not plain.W.array
    assert (to_numpy(link.log_sigma2.array) == -8).all()


def test_size_takes_words_for_inputs():
    size = layer_of().layer_size("/embed")
    assert (size.weights, size.weights_kept, size.others) == (8, 5, 0)
    assert (size.inputs, size.inputs_kept) == (4, 4)
    assert (size.outputs, size.outputs_kept) == (2, 2)
    link = layer_of()
    link.log_sigma2.array[2] = 20.0
    size = link.layer_size("/embed")
    assert (size.inputs_kept, size.outputs_kept) == (3, 2)


def test_round_trip_and_continued_noise(tmp_path):
    link = layer_of()
    optimizer = optimizers.SGD(0.1).setup(link)
    link(IDS)
    serializers.save_npz(tmp_path / "l.npz", link)
    serializers.save_npz(tmp_path / "o.npz", optimizer)
    other = L.VariationalDropoutEmbedID(4, 2, initializers.Normal(dtype="float64"))
    serializers.load_npz(tmp_path / "l.npz", other)
    serializers.load_npz(tmp_path / "o.npz", optimizers.SGD().setup(other))
    numpy.testing.assert_array_equal(link(IDS), other(IDS))


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_an_update_waits_for_no_gpu(cupy, emulation, noise):
    link = layer_of(dtype="float32", noise=noise).to_device(0)
    optimizer = optimizers.SGD(0.1).setup(link)
    ids = cupy.asarray(IDS)

    def loss():
        y = link(ids)
        return array_namespace(y).sum(y * y)

    for _ in range(2):
        optimizer.update(loss)
    with emulation.transfers() as moved:
        optimizer.update(loss)
    assert moved.to_device == moved.to_host == moved.synchronizations == 0
