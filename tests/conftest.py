"""Array libraries that tests run on, and one seed for each test."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import array_api_compat
import numpy
import pytest

import vdcore
from tests import emulated_cupy
from vdcore.arrays import Array
from vdcore.testing import register_array_api_strict, stand_in_namespace

ON_TAPE = ("numpy", "array_api_strict", "stand-in", "cupy")
LIBRARIES = (*ON_TAPE, "torch", "jax")
ROOT = Path(__file__).parents[1]
REQUIRED = os.environ.get("VDCORE_REQUIRE", "").split()
COMPILER = "g++"  # what VDCORE_REQUIRE calls it
# Its modules are imported as parts of `tests`: collected for doctests they would be
# imported a second time.
collect_ignore = ["emulated_cupy"]


def _has_gpu() -> bool:
    """Whether CuPy and a GPU's driver are installed."""
    if importlib.util.find_spec("cupy") is None:
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return False
    return count.value > 0


HAS_GPU = _has_gpu()


def pytest_configure() -> None:
    """Put an emulated CuPy where there is no GPU, and see to what must be installed.

    A test is skipped where a module that it needs is missing; in CI none of those that
    ``VDCORE_REQUIRE`` lists may be.
    """
    if not HAS_GPU and emulated_cupy.compiler() is not None:
        emulated_cupy.install()
    modules = [name for name in REQUIRED if name != COMPILER]
    if not modules:
        return
    # By another process: some tests fork, which JAX and torch, once imported, mind.
    imports = subprocess.run(
        [sys.executable, "-P", "-c", f"import {', '.join(modules)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if imports.returncode:
        message = f"VDCORE_REQUIRE: {imports.stderr.strip().splitlines()[-1]}"
        raise pytest.UsageError(message)


class Library(NamedTuple):
    """An array library under test.

    Attributes
    ----------
    name : str
    xp : namespace
    asarray : callable
        An array of the library from a NumPy array, of the same dtype.
    on_tape : bool
        Whether vdcore.autodiff differentiates its arrays.
    """

    name: str
    xp: Any
    asarray: Callable[[Any], Array]
    on_tape: bool

    def call(self, function: Callable, *arrays: Array) -> Any:
        """``function(*arrays)``, compiled by JAX: operation by operation it is slow."""
        if self.name == "jax":
            function = importlib.import_module("jax").jit(function)
        return function(*arrays)


def _skip(name: str, reason: str) -> NoReturn:
    """Skip; fail where ``VDCORE_REQUIRE`` lists the library."""
    if name in REQUIRED:
        pytest.fail(f"{reason}, and VDCORE_REQUIRE lists {name}", pytrace=False)
    pytest.skip(reason)


def _imported(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, not ours
            return importlib.import_module(name)
    except ImportError:
        _skip(name, f"{name} is not installed")


def _import_cupy() -> Any:
    if not HAS_GPU and emulated_cupy.compiler() is None:
        reason = "neither a GPU nor g++, which the emulated CuPy needs, is installed"
        _skip(COMPILER, reason)
    return importlib.import_module("cupy")


def _namespace(name: str) -> Any:
    if name == "stand-in":
        return stand_in_namespace
    if name == "array_api_strict":
        strict = _imported(name)
        register_array_api_strict()
        return strict
    if name == "cupy":
        return array_api_compat.array_namespace(_import_cupy().zeros(1))
    if name == "jax":
        _imported(name).config.update("jax_enable_x64", True)
        name = "jax.numpy"
    return array_api_compat.array_namespace(_imported(name).zeros(1))


def make_library(name: str) -> Library:
    """The library of this name, or a skip with the reason."""
    xp = _namespace(name)

    def asarray(values: Any) -> Array:
        # A copy, for kernels may overwrite what they are given.
        return xp.asarray(numpy.array(values))

    return Library(name, xp, asarray, name in ON_TAPE)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Library:
    """Each array library in turn."""
    return make_library(request.param)


@pytest.fixture(params=ON_TAPE)
def tape_library(request: pytest.FixtureRequest) -> Library:
    """Each array library that the tape differentiates."""
    return make_library(request.param)


@pytest.fixture
def numpy_library() -> Library:
    """NumPy, for arrays so large that its compiled kernels take them."""
    return make_library("numpy")


@pytest.fixture
def cupy() -> Any:
    """The module cupy, emulated where there is no GPU."""
    return _import_cupy()


@pytest.fixture
def emulation() -> Any:
    """What tests may ask of the emulated CuPy and not of CuPy."""
    if HAS_GPU:
        pytest.skip("CuPy is not emulated: there is a GPU")
    _import_cupy()
    return emulated_cupy


@pytest.fixture
def numba() -> Any:
    """The module numba."""
    return _imported("numba")


@pytest.fixture
def torch() -> Any:
    """The module torch, as an oracle."""
    return _imported("torch")


@pytest.fixture
def jax() -> Any:
    """The module jax, in double precision."""
    module = _imported("jax")
    module.config.update("jax_enable_x64", True)
    return module


@pytest.fixture(scope="session")
def mpiexec() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a script in several processes, with arguments.

    None processes: one, without ``mpiexec``.
    """
    _imported("mpi4py")
    paths = [sysconfig.get_path("scripts"), os.environ.get("PATH", "")]
    launcher = shutil.which("mpiexec", path=os.pathsep.join(paths))
    if launcher is None:
        _skip("mpi4py", "mpi4py is installed, but there is no mpiexec")
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "VDCORE_NUM_THREADS": "1"}

    def run(count: int | None, *command: Any, **environment: str) -> Any:
        start = [] if count is None else [launcher, "-n", str(count)]
        return subprocess.run(
            [*start, sys.executable, "-W", "error", *map(str, command)],
            env=os.environ | one_thread | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    before = vdcore.config.rng
    vdcore.seed(0)
    yield
    vdcore.config.rng = before


@pytest.fixture
def rng() -> numpy.random.Generator:
    """Source of test data."""
    return numpy.random.default_rng(20170806)
