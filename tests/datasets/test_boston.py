"""get_boston, on a table made here and on the real one."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore import datasets

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
HEADER = "CRIM,ZN,INDUS,CHAS,NOX,RM,AGE,DIS,RAD,TAX,PTRATIO,B,LSTAT,MEDV"


def make_table():
    """506 rows that tell where they were: row r, column c is r + c / 100."""
    values = numpy.arange(506)[:, None] + numpy.arange(14) / 100
    values[:, -1] = numpy.linspace(5, 50, 506).round(3)
    return values


def as_text(values, header=HEADER, end="\n"):
    rows = [",".join(f"{x:g}" for x in row) for row in values]
    return end.join([header, *rows, ""])


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The file in VDCORE_DATASET_ROOT."""
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(tmp_path))
    path = tmp_path / "boston" / "boston_house_prices.csv"
    path.parent.mkdir()
    path.write_text(as_text(make_table()))
    return path


def test_each_row_is_in_one_part(path):
    train, test = datasets.get_boston(seed=3)
    (x, t), (x_test, t_test) = train.arrays, test.arrays
    assert (x.shape, t.shape) == ((404, 13), (404, 1))
    assert (x_test.shape, t_test.shape) == ((102, 13), (102, 1))
    whole = numpy.hstack([numpy.vstack([x, x_test]), numpy.vstack([t, t_test])])
    assert whole.dtype == numpy.float32
    whole = whole[numpy.argsort(whole[:, 0])]
    numpy.testing.assert_allclose(whole, make_table(), rtol=1e-5)


def test_the_seed_decides_the_parts(path):
    first, again, other = (datasets.get_boston(seed)[1].arrays[1] for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert (first != other).any()


def test_scikit_learns_copy(path):
    """It begins with its size, has the names in quotes; Windows ends lines by two."""
    expected = datasets.get_boston()[0].arrays[0]
    quoted = ",".join(f'"{name}"' for name in HEADER.split(","))
    text = as_text(make_table(), quoted, "\r\n")
    path.write_bytes(f"506,13,,,,,,,,,,,,\r\n{text}".encode())
    assert_array_equal(datasets.get_boston()[0].arrays[0], expected)


def replaced(row, column, text):
    rows = as_text(make_table()).split("\n")
    cells = rows[row].split(",")
    cells[column] = text
    rows[row] = ",".join(cells)
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "expected a table of the columns CRIM, .*, got nothing"),
        ("506,13,,,,,,,,,,,,\n", "expected a table of the columns"),
        (as_text(make_table()[:, ::-1], "x,y"), "got x, y;"),
        (as_text(make_table()[:400]), "expected 506 rows below the header, got 400"),
        (replaced(7, 2, "oops"), "expected 14 finite numbers in row 7, got '6,6.01,o"),
        (replaced(7, 2, "nan"), "expected 14 finite numbers in row 7"),
        (replaced(506, 13, "1,2"), "expected 14 finite numbers in row 506"),
        (replaced(506, 13, ""), "expected 14 finite numbers in row 506"),
        (replaced(9, 13, "500"), "expected prices from 5 to 50, got 5 to 500"),
        (
            "CRIM,ZN\u00e9",
            "expected a table as ASCII text, got byte 0xc3 at position 7",
        ),
        (gzip.compress(as_text(make_table()).encode())[:-9], "a whole gzip file"),
    ],
)
def test_a_file_that_is_another(path, content, expected):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=expected) as caught:
        datasets.get_boston()
    assert str(caught.value).startswith(f"file {path} is unusable")


def test_a_file_cut_short(path):
    """In the last row: what is left of it may be numbers still."""
    whole = path.read_text()
    for size in (len(whole) // 2, len(whole) - 4):
        path.write_text(whole[:size])
        with pytest.raises(ValueError, match="is unusable: expected"):
            datasets.get_boston()


def test_a_missing_file(path):
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"boston_house_prices.csv .*nothing"):
        datasets.get_boston()


def test_downloads_with_checksum_into_the_cache(cache, monkeypatch, path):
    import pooch

    monkeypatch.delenv("VDCORE_DATASET_ROOT")
    calls = []

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, path))
        return str(file)

    file = path
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(datasets.get_boston()[0]) == 404
    url = (
        "https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.1.3/sklearn/"
        "datasets/data/boston_house_prices.csv"
    )
    sha256 = "d98212636026544fc9b9c0f372e5f819872e6fa6fa757ab025efdda22180f2d6"
    assert calls == [(url, sha256, cache / "boston")]


def test_the_real_table(monkeypatch):
    root = Path(os.environ.get("VDCORE_DATASET_ROOT") or SHARED)
    if not (root / "boston").is_dir():
        pytest.skip("needs VDCORE_DATASET_ROOT with the real Boston housing data")
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(root))
    parts = datasets.get_boston()
    x, t = (numpy.vstack([part.arrays[k] for part in parts]) for k in (0, 1))
    # Harrison, Rubinfeld 1978: the mean price; StatLib: the rows by the river.
    assert t.mean() == pytest.approx(22.533, abs=5e-4)
    assert x[:, 3].sum() == 35
    assert (x.min(), x.max()) == pytest.approx((0, 711))
