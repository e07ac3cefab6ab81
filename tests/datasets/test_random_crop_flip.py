"""Random crops and mirrorings: each is a window of the image, and all are as likely."""

from __future__ import annotations

import itertools

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vdcore.datasets import RandomCropFlip, TupleDataset
from vdcore.iterators import SerialIterator
from vdcore.serializers import load_npz, save_npz


def rng(seed=0):
    return numpy.random.default_rng(seed)


def windows(image, pad, value=0.0):
    """All that can become of an image, by (top, left, whether it is mirrored)."""
    framed = numpy.pad(image, [(0, 0), (pad, pad), (pad, pad)], constant_values=value)
    height, width = image.shape[1:]
    found = {}
    for top, left in itertools.product(range(2 * pad + 1), repeat=2):
        window = framed[:, top : top + height, left : left + width]
        found[top, left, False] = window
        found[top, left, True] = window[:, :, ::-1]
    return found


def draws(images, augmented, pad, value=0.0):
    """What was drawn for each image: (top, left, whether mirrored), shape (n, 3)."""
    drawn = []
    for image, result in zip(images, augmented, strict=True):
        fits = [
            draw
            for draw, window in windows(image, pad, value).items()
            if numpy.array_equal(window, result)
        ]
        assert len(fits) == 1
        drawn += fits
    return numpy.asarray(drawn)


@pytest.fixture
def images():
    return rng(1).standard_normal((40, 3, 8, 6)).astype(numpy.float32)


@pytest.mark.parametrize("pad", [0, 1, 4])
@pytest.mark.parametrize("value", [0.0, -2.5])
def test_each_result_is_a_window_of_its_image(images, pad, value):
    kept = images.copy()
    augmented = RandomCropFlip(pad, value=value, rng=rng())(images)
    assert augmented.dtype == numpy.float32
    drawn = draws(images, augmented, pad, value)
    assert len(numpy.unique(drawn, axis=0)) >= {0: 2, 1: 10, 4: 25}[pad]
    assert_array_equal(images, kept)


def test_all_windows_are_equally_likely():
    """Each of the 162 is counted as often, within five standard deviations."""
    image = numpy.arange(1.0, 65.0).reshape(1, 8, 8)
    known = {window.tobytes(): draw for draw, window in windows(image, 4).items()}
    n = 40_000
    augmented = RandomCropFlip(rng=rng())(numpy.broadcast_to(image, (n, 1, 8, 8)))
    drawn = numpy.asarray([known[result.tobytes()] for result in augmented])
    _, counts = numpy.unique(drawn, axis=0, return_counts=True)
    assert counts.shape == (162,)
    assert_allclose(counts, n / 162, atol=5 * (n / 162) ** 0.5)
    assert drawn[:, :2].max() == 8
    # Independent from one image to the next, wherever it is in the batch.
    mirrored = drawn[:, 2]
    assert_allclose(numpy.mean(mirrored[1:] != mirrored[:-1]), 0.5, atol=0.0125)
    for part in numpy.split(mirrored, 20):
        assert_allclose(part.mean(), 0.5, atol=5 * 0.5 / 2000**0.5)
    correlations = numpy.corrcoef(drawn.T)[numpy.triu_indices(3, 1)]
    assert_allclose(correlations, 0, atol=5 / n**0.5)


@pytest.mark.parametrize("flip", [0.0, 0.2, 1.0])
def test_probability_of_mirroring(flip):
    images = numpy.zeros((5000, 1, 1, 2), numpy.float32)
    images[..., 1] = 1
    augmented = RandomCropFlip(pad=0, flip=flip, rng=rng())(images)
    deviation = (flip * (1 - flip) / 5000) ** 0.5
    assert_allclose(augmented[:, 0, 0, 0].mean(), flip, atol=5 * deviation)
    assert_array_equal(augmented.sum(axis=3), 1)


def test_channels_of_an_image_move_together(images):
    same = numpy.repeat(images[:, :1], 3, axis=1)
    augmented = RandomCropFlip(rng=rng())(same)
    assert_array_equal(augmented[:, 0], augmented[:, 1])
    assert_array_equal(augmented[:, 0], augmented[:, 2])


def test_seed_decides(images):
    first, again, other = (RandomCropFlip(rng=rng(s))(images) for s in (0, 0, 1))
    assert_array_equal(first, again)
    assert not numpy.array_equal(first, other)
    augment = RandomCropFlip(rng=rng())
    assert not numpy.array_equal(augment(images), augment(images))


def test_libraries_agree(tape_library, images):
    expected = RandomCropFlip(rng=rng())(images[:5])
    given = tape_library.asarray(images[:5])
    augmented = RandomCropFlip(rng=rng())(given)
    assert type(augmented) is type(given)
    assert augmented.dtype == given.dtype
    values = [[float(augmented[i, 1, j, 2]) for j in range(8)] for i in range(5)]
    assert_array_equal(values, expected[:, 1, :, 2])


def test_a_restored_object_goes_on_exactly(tmp_path, images):
    original = RandomCropFlip(rng=rng())
    original(images)
    save_npz(tmp_path / "file", original)
    restored = RandomCropFlip(rng=rng(9))
    load_npz(tmp_path / "file", restored)
    for _ in range(3):
        assert_array_equal(restored(images), original(images))


def test_an_iterator_restored_in_mid_epoch_goes_on_exactly(tmp_path, images):
    dataset = TupleDataset(images, numpy.arange(40))

    def make(seed):
        return SerialIterator(
            dataset, 16, rng=rng(seed), transform=RandomCropFlip(rng=rng(seed + 1))
        )

    original = make(0)
    for _ in range(4):
        next(original)
    save_npz(tmp_path / "file", original)
    restored = make(7)
    load_npz(tmp_path / "file", restored)
    for _ in range(6):
        (x, t), (expected, labels) = next(restored), next(original)
        assert_array_equal(t, labels)
        assert_array_equal(x, expected)
        draws(images[t], x, 4)  # each image has kept its label


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        ({"pad": -1}, ValueError, "`pad` must be at least 0, got -1"),
        ({"pad": 4.0}, TypeError, "`pad` must be an int, got float"),
        ({"pad": True}, TypeError, "`pad` must be an int, got bool"),
        ({"flip": 1.5}, ValueError, "`flip` must be from 0 to 1, got 1.5"),
        ({"flip": numpy.nan}, ValueError, "`flip` must be from 0 to 1, got nan"),
    ],
)
def test_bad_arguments(arguments, error, expected):
    with pytest.raises(error, match=f"^RandomCropFlip: {expected}$"):
        RandomCropFlip(**arguments)


@pytest.mark.parametrize("shape", [(5, 3072), (3, 32, 32)])
def test_bad_images(shape):
    expected = r"`images` must have shape \(batch, .* got \(.*; load them with ndim=3"
    with pytest.raises(ValueError, match=expected):
        RandomCropFlip()(numpy.zeros(shape))
