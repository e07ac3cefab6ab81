from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from vdcore.datasets import Standardization, standardization
from vdcore.serializers import FileFormatError, load_npz, read_npz, save_npz


@pytest.fixture
def x():
    """Images whose channels and pixels differ in mean and deviation."""
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal((50, 3, 4, 5)) * rng.uniform(0.1, 2, (3, 4, 5))
    return (x + rng.uniform(-3, 3, (3, 4, 5))).astype(numpy.float32)


@pytest.mark.parametrize("axis", [0, (0,), (0, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("rows", [1, 7, 50, 1024])
def test_values_are_numpys(x, axis, rows, monkeypatch):
    monkeypatch.setattr(standardization, "ROWS", rows)
    standardize = Standardization.fit(x, axis)
    exact = x.astype(numpy.float64)
    mean = exact.mean(axis, keepdims=True)
    std = exact.std(axis, keepdims=True)
    assert_allclose(standardize.mean, mean[0], rtol=1e-6)
    assert_allclose(standardize.std, std[0], rtol=1e-6)
    assert (standardize.mean.dtype, standardize.std.dtype) == ("float32", "float32")
    y = standardize(x)
    assert y.dtype == numpy.float32
    assert_allclose(y, (exact - mean) / std, rtol=1e-5, atol=1e-5)
    assert_allclose(y.mean(axis), 0, atol=1e-5)
    assert_allclose(y.std(axis), 1, atol=1e-5)


def test_applies_to_others_and_to_one_example(x):
    standardize = Standardization.fit(x)
    other = x[:7] * 2
    kept = other.copy()
    y = standardize(other)
    assert_allclose(y, (other - x.mean(0)) / x.std(0), rtol=1e-4, atol=1e-5)
    assert_array_equal(other, kept)
    assert_array_equal(standardize(other[3]), y[3])


def test_vectors_and_double_precision(x):
    rows = x.reshape(50, 60).astype(numpy.float64)
    standardize = Standardization.fit(rows)
    assert_allclose(standardize.std, rows.std(0), rtol=1e-14)
    assert standardize(rows).dtype == numpy.float64


def test_a_small_deviation_of_large_values_is_not_lost():
    x = numpy.asarray([[1e4], [1e4 + 1 / 64]] * 500, dtype=numpy.float32)
    assert_allclose(Standardization.fit(x).std, 1 / 128, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_values_become_0(x, dtype):
    x = x.astype(dtype)
    x[:, 1, 2, 3] = 0.1  # whose mean over 50 examples is not 0.1 exactly
    standardize = Standardization.fit(x)
    assert standardize.std[1, 2, 3] == 1
    assert_allclose(standardize(x)[:, 1, 2, 3], 0, atol=1e-16)
    assert_allclose(standardize(x + 1)[:, 1, 2, 3], 1, rtol=1e-6)


def test_any_library(tape_library, x):
    standardize = Standardization.fit(tape_library.asarray(x), (0, 2, 3))
    assert isinstance(standardize.mean, numpy.ndarray)
    y = standardize(tape_library.asarray(x[:2]))
    assert type(y) is type(tape_library.asarray(x))
    expected = Standardization.fit(x, (0, 2, 3))(x[:2])
    assert_array_equal(
        numpy.asarray([float(v) for v in y[0, 1, 2, :]]), expected[0, 1, 2]
    )


def test_a_file_restores_it(tmp_path, x):
    path = tmp_path / "standardization.npz"
    original = Standardization.fit(x, (0, 2, 3))
    save_npz(path, original)
    assert sorted(read_npz(path)) == ["mean", "std"]
    restored = Standardization()
    load_npz(path, restored)
    assert_array_equal(restored(x), original(x))
    assert restored(x).dtype == numpy.float32
    again = Standardization.fit(x * 2, (0, 2, 3))
    load_npz(path, again)
    assert_array_equal(again(x), original(x))


def test_a_file_of_another_shape_is_refused(tmp_path, x):
    save_npz(tmp_path / "file", Standardization.fit(x))
    per_channel = Standardization.fit(x, (0, 2, 3))
    mean = per_channel.mean
    with pytest.raises(
        FileFormatError, match=r"'mean' must be .*\(3, 1, 1\), got .*4, 5"
    ):
        load_npz(tmp_path / "file", per_channel)
    assert per_channel.mean is mean


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"mean": numpy.zeros(3)}, "it has no entry 'std'"),
        ({"mean": numpy.zeros(3), "std": numpy.ones(2)}, "must have one shape"),
        ({"mean": numpy.zeros(3), "std": numpy.zeros(3)}, "`std` must be positive"),
        ({"mean": numpy.ones(3), "std": numpy.full(3, numpy.nan)}, "must be finite"),
        ({"mean": numpy.float64(0), "std": numpy.float64(1)}, "must be arrays"),
    ],
)
def test_bad_files(tmp_path, entries, expected):
    with open(tmp_path / "file", "wb") as file:
        numpy.savez(file, **entries)
    standardize = Standardization()
    with pytest.raises(FileFormatError, match=expected):
        load_npz(tmp_path / "file", standardize)
    assert standardize.mean is None


def test_nothing_measured(tmp_path, x):
    standardize = Standardization()
    for use in (lambda: standardize(x), lambda: save_npz(tmp_path / "x", standardize)):
        with pytest.raises(RuntimeError, match="nothing was measured yet; make one by"):
            use()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (4, 3)), ((1, 2), (4, 3, 2)), ((0, 2), (4, 3)), (0, (4,))]
)
def test_bad_axes(axis, shape):
    with pytest.raises(ValueError, match=r"`axis` must have 0, .* shape \(4"):
        Standardization.fit(numpy.zeros(shape), axis)


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_bad_values(x, value):
    x[3, 1, 1, 1] = value
    with pytest.raises(ValueError, match="fit: `x` must be finite, got NaN or inf"):
        Standardization.fit(x)
    with pytest.raises(TypeError, match=r"`x` must hold floating-point .* got uint8"):
        Standardization.fit(numpy.zeros((2, 3), numpy.uint8))


@pytest.mark.parametrize("shape", [(50, 60), (5,), (2, 3, 5, 4), (2, 1, 4, 5)])
def test_inputs_of_another_shape(x, shape):
    expected = r"the last axes of `x` must fit the measured \(3, 4, 5\), got shape"
    with pytest.raises(ValueError, match=expected):
        Standardization.fit(x)(numpy.zeros(shape, numpy.float32))
