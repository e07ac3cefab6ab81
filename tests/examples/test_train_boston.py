"""The Boston example runs end to end, on a table made here."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples/boston/train_boston.py"
NAMES = "CRIM ZN INDUS CHAS NOX RM AGE DIS RAD TAX PTRATIO B LSTAT MEDV".split()

# Runs are so short that to compile kernels for them would take longer.
FAST = {"PYTHONPATH": str(ROOT), "VDCORE_NUMBA": "0"}

for library in ("matplotlib", "tqdm"):
    pytest.importorskip(library, reason=f"the examples need {library}")


def run(root, out, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, "-o", out, *map(str, arguments)],
        env=os.environ | FAST | {"VDCORE_DATASET_ROOT": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Prices that one feature decides; the others are noise."""
    root = tmp_path_factory.mktemp("data")
    rng = numpy.random.default_rng(0)
    x = rng.normal(size=(506, 13)) * 10 ** rng.uniform(-1, 2, 13)
    t = numpy.clip(25 + 12 * x[:, 5] / x[:, 5].std(), 5, 50)
    (root / "boston").mkdir()
    file = root / "boston/boston_house_prices.csv"
    table = numpy.hstack([x, t[:, None]])
    header = ",".join(NAMES)
    numpy.savetxt(file, table, "%.6g", delimiter=",", header=header, comments="")
    return root


ARGUMENTS = ("-e", 120, "--splits", 2, "--multipliers", "none", "0", "1", "--lr", 0.05)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("boston")
    result = run(data, out, *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def test_table_and_files(finished):
    out, printed = finished
    assert (out / "summary.txt").read_text() == printed
    assert (out / "frontier.png").stat().st_size > 10_000
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines()]
    assert [row[0] for row in rows] == ["KL x", "---", "none", "0", "1"]
    summaries = json.loads((out / "summary.json").read_text())["summaries"]
    for row, summary in zip(rows[2:], summaries, strict=True):
        results = [
            json.loads(file.read_text())["result"]
            for file in sorted(out.glob(f"runs/kl-{row[0]}-split-*.json"))
        ]
        assert len(results) == summary["splits"] == 2
        for place, name in ((1, "train_mse"), (2, "test_mse")):
            a, b = (result["course"][name][-1] for result in results)
            # Of two numbers the standard deviation is |a - b| / sqrt(2).
            assert row[place] == f"{(a + b) / 2:.2f} +- {abs(a - b) / 2**0.5:.2f}"
            assert summary[name]["mean"] == pytest.approx((a + b) / 2)
        kept = sum(result["kept"]["weights"] for result in results) / 2
        assert row[6] == f"{1 / kept:.1f}"


def test_learns_and_drops(finished):
    """The variance of the prices is about 144; noise weights go where the KL counts."""
    out, _ = finished
    none, zero, one = json.loads((out / "summary.json").read_text())["summaries"]
    assert none["test_mse"]["mean"] < 30
    assert none["dropped_percent"] == {"mean": 0, "std": 0}
    assert zero["dropped_percent"]["mean"] < 5
    assert one["dropped_percent"]["mean"] > 90
    assert one["test_mse"]["mean"] < 60
    above = one["test_mse"]["mean"] - none["test_mse"]["mean"]
    assert one["above_plain"]["mean"] == pytest.approx(above)
    assert none["above_plain"] == {"mean": 0, "std": 0}
    assert none["course"]["epoch"][-1] == 120
    assert len(none["course"]["epoch"]) == 40


def test_finished_runs_are_kept_and_the_same_when_repeated(data, finished):
    out, printed = finished
    file = out / "runs/kl-1-split-1.json"
    before, content = file.stat().st_mtime_ns, file.read_text()
    lost = out / "runs/kl-0-split-1.json"
    former = lost.read_text()
    lost.unlink()
    assert run(data, out, *ARGUMENTS).stdout == printed
    assert lost.read_text() == former  # trained anew, from the same seed
    assert (file.stat().st_mtime_ns, file.read_text()) == (before, content)


def test_other_settings_do_not_mix(data, finished):
    out, _ = finished
    result = run(data, out, *ARGUMENTS, "--raw")
    assert result.returncode == 1
    assert "is of a run with other settings, {'epochs': 120" in result.stderr


def imported(monkeypatch):
    """The script as a module; it sets variables of the environment."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    for variable in ("OPENBLAS_NUM_THREADS", "VDCORE_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    return importlib.import_module("train_boston")


def test_validation_leaves_the_test_part_alone(data, monkeypatch):
    monkeypatch.setenv("VDCORE_DATASET_ROOT", str(data))
    train_boston = imported(monkeypatch)
    x, t, x_test, _ = train_boston.load(5, 0, raw=True)
    x_fit, t_fit, x_valid, t_valid = train_boston.load(5, 81, raw=True)
    assert (len(x_fit), len(x_valid), len(x_test)) == (404 - 81, 81, 102)
    numpy.testing.assert_array_equal(numpy.vstack([x_fit, x_valid]), x)
    numpy.testing.assert_array_equal(numpy.vstack([t_fit, t_valid]), t)
    standardised = train_boston.load(5, 81, raw=False)[0]
    numpy.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-5)
    numpy.testing.assert_allclose(standardised.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--multipliers=-1", 'must be "none" or a finite number'),
        ("--multipliers=nan", 'must be "none" or a finite number'),
        ("--epochs=0", "must be at least 1"),
        ("--splits=0", "must be at least 1"),
        ("--lr=0", "must be a finite positive number"),
        ("--validation=404", "must be 0 to 403"),
    ],
)
def test_bad_arguments(monkeypatch, capsys, argument, expected):
    script = imported(monkeypatch)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), argument])
    with pytest.raises(SystemExit):
        script.parse_args()
    assert expected in capsys.readouterr().err
