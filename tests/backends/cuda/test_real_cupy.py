"""CuPy itself, which can be imported where there is no GPU."""

import subprocess
import sys

import pytest

from tests.conftest import HAS_GPU, REQUIRED

SCRIPT = """
import importlib.util
if importlib.util.find_spec("cupy") is None:
    print("CuPy is not installed")
    raise SystemExit
import cupy
assert "emulated" not in cupy.__file__
from autograd.extend import Box
from vdcore import kernels
from vdcore.kernels.table import Kernel, load_backend
from vdcore.arrays import library_name
assert library_name(cupy.ndarray) == "cupy"
load_backend("cupy")
assert cupy.ndarray in Box.type_mappings
for name in kernels.__all__:
    kernel = getattr(kernels, name)
    if isinstance(kernel, Kernel):
        module = kernel._choose(cupy.ndarray).__module__
        assert module.startswith(("vdcore.backends.cupy", "vdcore.backends.cuda")), name
import vdcore.backends.cuda.graph
import numpy
from vdcore.arrays import to_device
try:
    to_device(numpy.zeros(2), 0)
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(HAS_GPU, reason="with a GPU all tests are of CuPy itself")
def test_its_arrays_are_dispatched_and_a_missing_gpu_is_named():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    if "is not installed" in run.stdout and "cupy" not in REQUIRED:
        pytest.skip(run.stdout.strip())
    assert "CuPy is installed but no GPU is usable: " in run.stdout
