"""Boston housing: median prices of homes by 13 figures of their neighbourhood."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy

from vdcore.datasets.content import read_content, unusable
from vdcore.datasets.source import Source
from vdcore.datasets.split_dataset import split_dataset_random
from vdcore.datasets.tuple_dataset import TupleDataset

FILE = "boston_house_prices.csv"
COLUMNS = "CRIM ZN INDUS CHAS NOX RM AGE DIS RAD TAX PTRATIO B LSTAT MEDV".split()
ROWS = 506
TRAIN_SIZE = 404  # four fifths
LOWEST, HIGHEST = 5.0, 50.0  # MEDV, in thousands of dollars; the census cut it there

BOSTON = Source(
    "boston",
    "https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.1.3/sklearn/"
    "datasets/data/",
    {FILE: "d98212636026544fc9b9c0f372e5f819872e6fa6fa757ab025efdda22180f2d6"},
)


def get_boston(seed: int = 0) -> tuple[TupleDataset, TupleDataset]:
    """Return the 506 neighbourhoods of Boston as (train, test), 404 and 102 of them.

    The file ``boston_house_prices.csv`` is read from ``$VDCORE_DATASET_ROOT/boston/``
    if that environment variable is set, and otherwise from the user's cache, into which
    it is downloaded once, from scikit-learn 1.1.3, the last release that had it.

    Parameters
    ----------
    seed : int
        Decides which are which; there is no official split.

    Returns
    -------
    train, test : TupleDataset
        Features, float32 of shape (n, 13), as they are in the file (from 0.004 to 711:
        standardise them), and prices in thousands of dollars, float32 of shape (n, 1).

    Raises
    ------
    FileNotFoundError
        If ``VDCORE_DATASET_ROOT`` is set and lacks the file.
    OSError
        If it cannot be downloaded.
    ValueError
        If the file is damaged, cut short or another one. The message names it.

    Notes
    -----
    D. Harrison and D. L. Rubinfeld, "Hedonic housing prices and the demand for clean
    air" (1978); the "boston" set of StatLib, Carnegie Mellon University. One column, B,
    is built on an assumption about race, for which scikit-learn withdrew the set: it is
    here to compare with published numbers, and for nothing else.
    """
    values = _read(BOSTON.find(FILE)).astype(numpy.float32)
    dataset = TupleDataset(values[:, :-1].copy(), values[:, -1:].copy())
    return split_dataset_random(dataset, TRAIN_SIZE, seed)


def _read(path: Path) -> numpy.ndarray:
    """The table, shape (506, 14)."""
    rows = list(csv.reader(_text(path).splitlines()))
    if rows and rows[0][:2] == [str(ROWS), str(len(COLUMNS) - 1)]:
        del rows[0]  # scikit-learn's copy begins with its size
    if not rows or rows[0] != COLUMNS:
        expected = f"a table of the columns {', '.join(COLUMNS)}"
        raise unusable(path, expected, ", ".join(rows[0])[:80] if rows else "nothing")
    del rows[0]
    if len(rows) != ROWS:
        raise unusable(path, f"{ROWS} rows below the header", str(len(rows)))
    values = numpy.asarray([_numbers(path, k, row) for k, row in enumerate(rows, 1)])
    prices = values[:, -1]
    if prices.min() != LOWEST or prices.max() != HIGHEST:
        expected = f"prices from {LOWEST:g} to {HIGHEST:g}"
        raise unusable(path, expected, f"{prices.min():g} to {prices.max():g}")
    return values


def _text(path: Path) -> str:
    content = read_content(path)
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        actual = f"byte {content[error.start]:#04x} at position {error.start}"
        raise unusable(path, "a table as ASCII text", actual) from error


def _numbers(path: Path, position: int, row: list[str]) -> list[float]:
    try:
        values = [float(text) for text in row]
    except ValueError:
        values = []
    if len(values) != len(COLUMNS) or not numpy.isfinite(values).all():
        expected = f"{len(COLUMNS)} finite numbers in row {position}"
        raise unusable(path, expected, repr(",".join(row)[:80]))
    return values
