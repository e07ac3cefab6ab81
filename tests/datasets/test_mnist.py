"""get_mnist and relatives, on small files made here and on the real ones."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vdcore.datasets import get_fashion_mnist, get_kmnist, get_mnist
from vdcore.datasets.idx import read_idx

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"


def idx_bytes(array):
    header = [0x800 + array.ndim, *array.shape]
    return numpy.asarray(header, ">u4").tobytes() + array.astype("u1").tobytes()


def write(path, content, packed=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def images():
    return numpy.random.default_rng(0).integers(0, 256, (12, 28, 28))


@pytest.fixture
def labels():
    return numpy.arange(12) % 10


@pytest.fixture
def folder(tmp_path, monkeypatch, images, labels):
    """A VDCORE_DATASET_ROOT with twelve images to train with and three to test with."""
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    folder = tmp_path / "mnist"
    write(folder / TRAIN_IMAGES, idx_bytes(images))
    write(folder / TRAIN_LABELS, idx_bytes(labels))
    write(folder / "t10k-images-idx3-ubyte", idx_bytes(images[:3]), packed=False)
    write(folder / "t10k-labels-idx1-ubyte", idx_bytes(labels[:3]), packed=False)
    return folder


def test_reads_packed_and_plain_files(folder, images, labels):
    train, test = get_mnist()
    assert_allclose(train.arrays[0], images.reshape(12, 784) / 255, rtol=1e-6)
    assert_array_equal(train.arrays[1], labels)
    assert_array_equal(test.arrays[0], train.arrays[0][:3])
    assert train.arrays[0].dtype == numpy.float32
    assert train.arrays[1].dtype == numpy.int32


def test_shape_scale_and_types(folder, images):
    train, _ = get_mnist(ndim=3, scale=255.0, dtype="float64", label_dtype="int64")
    assert_allclose(train.arrays[0], images[:, None], rtol=1e-12)
    assert (train.arrays[0].dtype, train.arrays[1].dtype) == ("float64", "int64")
    train, test = get_mnist(withlabel=False, ndim=2)
    assert (train.shape, test.shape) == ((12, 28, 28), (3, 28, 28))


def test_splits_need_only_their_own_files(folder):
    (folder / TRAIN_IMAGES).unlink()
    (test,) = get_mnist(splits=["test"])
    assert len(test) == 3
    with pytest.raises(FileNotFoundError, match=TRAIN_IMAGES):
        get_mnist()


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_each_data_set_has_its_folder(folder, name):
    folder.rename(folder.with_name(name))
    get = {"fashion-mnist": get_fashion_mnist, "kmnist": get_kmnist}[name]
    assert [len(half) for half in get()] == [12, 3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"ndim": 4}, "`ndim` must be 1, 2 or 3, got 4"),
        ({"dtype": numpy.uint8}, "`dtype` must be a floating type, got uint8"),
        ({"label_dtype": float}, "`label_dtype` must be an integer type, got float64"),
        ({"splits": "test"}, "`splits` must be a sequence of 'train' and 'test', got"),
        ({"splits": ["valid"]}, r"`splits` must be .* got \['valid'\]"),
    ],
)
def test_bad_arguments(folder, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        get_mnist(**arguments)


def test_missing_file_names_what_is_there_and_both_remedies(folder):
    (folder / TRAIN_LABELS).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        get_mnist()
    message = str(caught.value)
    assert str(folder) in message
    assert "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte" in message
    assert f"https://ossci-datasets.s3.amazonaws.com/mnist/{TRAIN_LABELS}" in message
    assert "unset" in message


def test_missing_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="has nothing; put the file there"):
        get_kmnist()


def damaged(content):
    """Name to (bytes of a damaged images file, what the error must say)."""
    packed = gzip.compress(content)
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 0xFF
    return {
        "gzip cut short": (packed[:-100], "expected a whole gzip file, got"),
        "gzip with a wrong byte": (bytes(flipped), "expected a whole gzip file, got"),
        "gzip header only": (packed[:5], "expected a whole gzip file, got"),
        "empty": (b"", r"magic number 2051, got 0 bytes that begin with b''"),
        "web page": (b"<!DOCTYPE html>", r"magic number 2051, .* b'<!DOCTYP'"),
        "labels": (idx_bytes(numpy.arange(3)), r"magic number 2051, got .* \(2049\)"),
        "header cut short": (content[:9], "magic number 2051, got 9 bytes"),
        "values cut short": (
            content[:-1],
            r"expected 9408 bytes after the header, which says \(12, 28, 28\), "
            "got 9407",
        ),
        "trailing bytes": (content + b"\0", "expected 9408 .* got 9409"),
        "other size": (
            idx_bytes(numpy.zeros((12, 32, 32))),
            "expected images of 28x28 pixels, got 32x32",
        ),
    }


@pytest.mark.parametrize("damage", damaged(b"-" * 1000))
def test_damaged_images(folder, images, damage):
    content, expected = damaged(idx_bytes(images))[damage]
    (folder / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(ValueError, match=expected) as caught:
        get_mnist()
    assert str(caught.value).startswith(f"file {folder / TRAIN_IMAGES} is unusable")
    remedy = "; replace it by the official file, or unset VDCORE_DATASET_ROOT to have"
    assert remedy in str(caught.value)


def test_damaged_file_of_no_root(tmp_path, monkeypatch):
    """There is nothing to unset then."""
    monkeypatch.delenv("VDCORE_DATASET_ROOT", raising=False)
    (tmp_path / "labels").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is unusable: .*replace it by") as caught:
        read_idx(tmp_path / "labels", ndim=1)
    assert "VDCORE_DATASET_ROOT" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (numpy.arange(11) % 10, "expected 12 labels, one for each image in .* got 11"),
        (numpy.arange(12), "expected labels from 0 to 9, got 10 at position 10"),
    ],
)
def test_wrong_labels(folder, wrong, expected):
    write(folder / TRAIN_LABELS, idx_bytes(wrong))
    with pytest.raises(ValueError, match=expected):
        get_mnist()


def test_values_are_not_misread(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(bytes.fromhex("00000803 00000001 00000002 00000003 010203 0405ff"))
    assert_array_equal(read_idx(path, ndim=3), [[[1, 2, 3], [4, 5, 255]]])


def test_downloads_with_checksum_into_the_cache(cache, monkeypatch, folder):
    import pooch

    monkeypatch.delenv("VDCORE_DATASET_ROOT")
    calls = []

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, path, progressbar))
        return str(folder / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    (train,) = get_mnist(splits=["train"])
    assert len(train) == 12
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    sha256 = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    assert calls[0] == (url + TRAIN_IMAGES, sha256, cache / "mnist", True)
    assert calls[1][0] == url + TRAIN_LABELS


@pytest.mark.parametrize("failure", [ConnectionError("no route"), ValueError("hash")])
def test_failed_download_says_what_to_do_by_hand(cache, monkeypatch, failure):
    import pooch

    def retrieve(*_, **__):
        raise failure

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(OSError, match="could not download") as caught:
        get_fashion_mnist()
    message = str(caught.value)
    assert str(failure) in message
    assert "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/" in message
    assert str(cache / "fashion-mnist") in message
    assert "VDCORE_DATASET_ROOT" in message
    sha256 = "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    assert sha256 in message


def test_without_pooch_the_error_names_the_extra(monkeypatch):
    monkeypatch.delenv("VDCORE_DATASET_ROOT", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "vdcore\[examples\]"'):
        get_mnist()


@pytest.fixture
def real_data(monkeypatch):
    root = Path(os.environ.get("VDCORE_DATASET_ROOT") or SHARED)
    if not (root / "mnist").is_dir():
        pytest.skip("needs VDCORE_DATASET_ROOT with the real MNIST")
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(root))


# The published counts of the digits 0 to 9 (LeCun et al.) and the usual moments.
def test_the_real_mnist(real_data):
    train, test = get_mnist()
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert_array_equal(numpy.bincount(train.arrays[1]), train_counts)
    assert_array_equal(numpy.bincount(test.arrays[1]), test_counts)
    pixels = train.arrays[0]
    assert pixels.shape == (60000, 784)
    mean = pixels.mean()
    variance = numpy.vdot(pixels, pixels) / pixels.size - mean**2
    assert_allclose(mean, 0.1307, atol=5e-5)
    assert_allclose(variance**0.5, 0.3081, atol=5e-5)
