"""get_cifar10 and get_cifar100, on small files made here and on the real ones."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vdcore.datasets import get_cifar10, get_cifar100

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
TRAIN = BATCHES[:5]


def make_batch(name, size=4):
    """What is in a batch, by the name of its file."""
    rng = numpy.random.default_rng([*name.encode()])
    fine = rng.integers(0, 100, size)
    return {
        b"data": rng.integers(0, 256, (size, 3072), dtype=numpy.uint8),
        b"labels": (fine % 10).tolist(),
        b"fine_labels": fine.tolist(),
        b"coarse_labels": (fine // 5).tolist(),
        b"filenames": [b"a.png"] * size,
        b"batch_label": name.encode(),
    }


def as_text(batch):
    """The batch as Python 3 would hold it."""
    return {key.decode(): value for key, value in batch.items()}


def images_of(*names):
    rows = numpy.concatenate([make_batch(name)[b"data"] for name in names])
    return rows.reshape(-1, 3, 32, 32)


def labels_of(*names, key=b"labels"):
    return numpy.concatenate([make_batch(name)[key] for name in names])


def pack(folder, archive, prefix="", compress=gzip.compress):
    """Replace a folder by a tar archive of it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(folder, prefix + folder.name)
    archive.write_bytes(compress(stream.getvalue()))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return archive


@pytest.fixture
def cifar10(tmp_path, monkeypatch, python2_pickle):
    """The unpacked folder of a small CIFAR-10 below VDCORE_DATASET_ROOT."""
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in BATCHES:
        (folder / name).write_bytes(python2_pickle(make_batch(name)))
    (folder / "batches.meta").write_bytes(b"not read")
    return folder


@pytest.fixture
def cifar100(tmp_path, monkeypatch, python2_pickle):
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    folder = tmp_path / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name in ("train", "test"):
        (folder / name).write_bytes(python2_pickle(make_batch(name)))
    return folder


def check_cifar10():
    train, test = get_cifar10()
    x, t = train.arrays
    assert x.shape == (20, 3, 32, 32)
    assert_allclose(x, images_of(*TRAIN) / 255, rtol=1e-6)
    assert_array_equal(t, labels_of(*TRAIN))
    assert_allclose(test.arrays[0], images_of("test_batch") / 255, rtol=1e-6)
    assert_array_equal(test.arrays[1], labels_of("test_batch"))
    assert (x.dtype, t.dtype) == (numpy.float32, numpy.int32)


def test_folder_as_python_2_wrote_it(cifar10):
    check_cifar10()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_folder_as_python_3_writes_it(cifar10, protocol):
    for name in BATCHES:
        batch = as_text(make_batch(name))
        (cifar10 / name).write_bytes(pickle.dumps(batch, protocol))
    check_cifar10()


@pytest.mark.parametrize("prefix", ["", "./"])
def test_archive(cifar10, prefix):
    place = pack(cifar10, cifar10.parent / "cifar-10-python.tar.gz", prefix)
    check_cifar10()
    place.with_suffix("").write_bytes(gzip.decompress(place.read_bytes()))
    place.unlink()
    check_cifar10()


def test_pixels_are_in_planes_of_red_green_and_blue(cifar10, python2_pickle):
    data = numpy.zeros((1, 3072), numpy.uint8)
    data[0, 1024 + 2 * 32 + 5] = 255  # green, third row, sixth column
    batch = {b"data": data, b"labels": [7]}
    (cifar10 / "test_batch").write_bytes(python2_pickle(batch))
    (test,) = get_cifar10(withlabel=False, splits=["test"])
    assert_array_equal(numpy.argwhere(test), [[0, 1, 2, 5]])


def test_shape_scale_and_types(cifar10):
    form = {"ndim": 1, "scale": 255.0, "dtype": "float64", "label_dtype": "int64"}
    train, test = get_cifar10(**form)
    x, t = train.arrays
    assert_allclose(x, images_of(*TRAIN).reshape(20, 3072), rtol=1e-12)
    assert (x.dtype, t.dtype) == ("float64", "int64")
    train, test = get_cifar10(withlabel=False)
    assert (train.shape, test.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))


def test_fine_and_coarse_labels(cifar100):
    for labels in ("fine", "coarse"):
        train, test = get_cifar100(labels=labels)
        key = f"{labels}_labels".encode()
        assert_array_equal(train.arrays[1], labels_of("train", key=key))
        assert_array_equal(test.arrays[1], labels_of("test", key=key))
        assert_allclose(train.arrays[0], images_of("train") / 255, rtol=1e-6)
    (default,) = get_cifar100(splits=["test"])
    assert_array_equal(default.arrays[1], labels_of("test", key=b"fine_labels"))


def test_archive_of_cifar100(cifar100):
    pack(cifar100, cifar100.parent / "cifar-100-python.tar.gz")
    assert [len(half) for half in get_cifar100()] == [4, 4]


def test_splits_need_only_their_own_files(cifar10):
    (cifar10 / "data_batch_3").unlink()
    (test,) = get_cifar10(splits=["test"])
    assert len(test) == 4
    test, again = get_cifar10(splits=["test", "test"])
    assert_array_equal(test.arrays[0], again.arrays[0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"ndim": 2}, "`ndim` must be 1 or 3 for images in colour, got 2"),
        ({"dtype": numpy.uint8}, "`dtype` must be a floating type, got uint8"),
        ({"splits": "test"}, "cifar100: `splits` must be a sequence of 'train' and"),
        ({"labels": "medium"}, "cifar100: `labels` must be 'fine' or 'coarse', got 'm"),
    ],
)
def test_bad_arguments(cifar100, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        get_cifar100(**arguments)


def test_nothing_there(cifar10):
    cifar10.rename(cifar10.with_name("cifar-10-batches-bin"))
    with pytest.raises(FileNotFoundError) as caught:
        get_cifar10()
    message = str(caught.value)
    assert f"{cifar10.parent} the place of cifar-10-python.tar.gz" in message
    assert "but that has cifar-10-batches-bin; put the file there, from " in message
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message


def test_folder_without_a_batch(cifar10):
    (cifar10 / "data_batch_3").unlink()
    expected = f"folder {cifar10} is incomplete: it lacks data_batch_3; unpack"
    with pytest.raises(FileNotFoundError, match=expected):
        get_cifar10()


def test_archive_without_a_batch(cifar10):
    (cifar10 / "data_batch_3").unlink()
    place = pack(cifar10, cifar10.parent / "cifar-10-python.tar.gz")
    with pytest.raises(ValueError, match="whole data set, got one without cif") as info:
        get_cifar10()
    assert str(info.value).startswith(f"file {place} is unusable")
    assert "without cifar-10-batches-py/data_batch_3; replace it by" in str(info.value)


def test_link_in_an_archive_is_not_followed(cifar10):
    (cifar10 / "test_batch").unlink()
    (cifar10 / "test_batch").symlink_to("data_batch_1")
    pack(cifar10, cifar10.parent / "cifar-10-python.tar.gz")
    with pytest.raises(ValueError, match="without cifar-10-batches-py/test_batch"):
        get_cifar10()


def test_archive_cut_short_anywhere(cifar10):
    archive = cifar10.parent / "cifar-10-python.tar.gz"
    whole = pack(cifar10, archive, compress=bytes).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for size in {0, 100, 511, 512, 513, 1024, *range(1000, end, 7919), end - 1}:
        archive.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"file {archive} is unusable: expected"):
            get_cifar10()
    packed = gzip.compress(whole)
    for size in (2, 100, len(packed) // 2, len(packed) - 1):
        archive.write_bytes(packed[:size])
        with pytest.raises(ValueError, match="expected a whole gzip file, got"):
            get_cifar10()
    archive.write_bytes(b"<!DOCTYPE html>" * 100)
    with pytest.raises(ValueError, match="expected a whole tar archive, got"):
        get_cifar10()


class Command:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def changed(**changes):
    batch = as_text(make_batch("train"))
    batch.update(changes)
    return pickle.dumps({k: v for k, v in batch.items() if v is not None})


DATA = make_batch("train")[b"data"]
DAMAGED = {
    "empty": (b"", "a pickled batch of images, got no pickle that can be read"),
    "cut short": (changed()[:-1000], "a pickled batch of images, got no pickle that"),
    "web page": (b"<!DOCTYPE html>", "a pickled batch of images, got no pickle that"),
    "list": (pickle.dumps([1]), "a pickled batch of images, got a pickled list"),
    "command": (changed(x=Command()), r"images, got .* asks for \w+\.mkdir, which"),
    "no data": (changed(data=None), "entries 'data' and 'fine_labels', got 'labels', "),
    "no labels": (changed(fine_labels=None), "and 'fine_labels', got 'data', 'lab"),
    "nothing": (pickle.dumps({}), "entries 'data' and 'fine_labels', got none"),
    "no array": (changed(data=[1]), r"\(n, 3072\) and dtype uint8, got list"),
    "floats": (
        changed(data=DATA / 255),
        r"no array of uint8 \(dtype 'f8'",
    ),
    "grey": (changed(data=DATA[:, :1024]), r"\(n, 3072\) .* got \(4, 1024\)"),
    "images": (changed(data=DATA.reshape(4, 3, 32, 32)), r"got \(4, 3, 32, 32\)"),
    "flat": (changed(data=DATA[0]), r"\(n, 3072\) and dtype uint8, got \(3072,\)"),
    "no images": (changed(data=DATA[:0]), r"\(n, 3072\) .* got \(0, 3072\)"),
    "few labels": (
        changed(fine_labels=[1, 2]),
        "a list of 4 fine_labels, .* got 2",
    ),
    "label array": (changed(fine_labels=DATA[:, 0]), "a list of 4 .* got ndarray"),
    "large label": (
        changed(fine_labels=[0, 99, 100, 1]),
        "to 99, got 100 at .* 2",
    ),
    "small label": (
        changed(fine_labels=[0, -1, 1, 1]),
        "0 to 99, got -1 at",
    ),
    "true label": (changed(fine_labels=[0, True, 1, 1]), "0 to 99, got True at pos"),
    "text label": (
        changed(fine_labels=[0, 1, "2", 1]),
        "0 to 99, got '2' at",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_batch(cifar100, damage, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, expected = DAMAGED[damage]
    path = cifar100 / "train"
    path.write_bytes(content)
    if packed:
        archive = pack(cifar100, cifar100.parent / "cifar-100-python.tar.gz")
        path = archive / "cifar-100-python" / "train"
    with pytest.raises(ValueError, match=expected) as caught:
        get_cifar100()
    assert str(caught.value).startswith(f"file {path} is unusable: expected ")
    assert "; replace it by the official file, or unset" in str(caught.value)
    assert not Path("made-by-a-pickle").exists()


def test_downloads_the_archive_with_its_checksum(cache, cifar10, cifar100, monkeypatch):
    import pooch

    monkeypatch.delenv("VDCORE_DATASET_ROOT")
    places = {
        "cifar-10-python.tar.gz": cifar10,
        "cifar-100-python.tar.gz": cifar100,
    }
    for name, folder in places.items():
        places[name] = pack(folder, folder.parent / name)
    calls = []

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, path))
        return str(places[fname])

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    check_cifar10()
    get_cifar100()
    assert calls == [
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            cache / "cifar10",
        ),
        (
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            cache / "cifar100",
        ),
    ]


@pytest.fixture
def real_data(monkeypatch):
    root = os.environ.get("VDCORE_DATASET_ROOT", "")
    if not root or not (Path(root) / "cifar10").is_dir():
        pytest.skip("needs VDCORE_DATASET_ROOT with the real CIFAR-10")


# The published counts and the usual moments of each channel; with room for copies
# that went through JPEG, whose deviations are smaller by 0.002.
def test_the_real_cifar10(real_data):
    train, test = get_cifar10()
    assert_array_equal(numpy.bincount(train.arrays[1]), [5000] * 10)
    assert_array_equal(numpy.bincount(test.arrays[1]), [1000] * 10)
    assert_array_equal(train.arrays[1][:8], [6, 9, 9, 4, 1, 1, 2, 7])
    x = train.arrays[0]
    assert x.shape == (50000, 3, 32, 32)
    mean = x.mean(axis=0, dtype="float64").mean(axis=(1, 2))
    x *= x
    square = x.mean(axis=0, dtype="float64").mean(axis=(1, 2))
    assert_allclose(mean, [0.4914, 0.4822, 0.4465], atol=3e-4)
    deviation = numpy.sqrt(square - mean**2)
    assert_allclose(deviation, [0.2470, 0.2435, 0.2616], atol=2e-3)
