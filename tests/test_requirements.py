"""In CI no test may be skipped because something is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("required", "code"),
    [("", 0), ("numpy scipy", 0), ("numpy no_such_module scipy", 4)],
)
def test_run_is_refused_without_what_is_required(required, code):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__]
    environment = os.environ | {"VDCORE_REQUIRE": required}
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stdout + result.stderr
    message = "VDCORE_REQUIRE: ModuleNotFoundError: No module named 'no_such_module'"
    assert (message in result.stderr) == bool(code)
