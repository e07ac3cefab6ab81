"""What is installed: the packages, the files in sdist and wheel, the imports."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = "cupy torch jax numba matplotlib sklearn tqdm pooch mpi4py"


def run_python(*arguments, cwd=ROOT, path=ROOT):
    """Run this interpreter and return what it prints; an error fails the test."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_packages_listed_are_those_of_the_tree():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    modules = [
        Path(*above, module.relative_to(ROOT))
        for folder, above in (("vdcore", ()), ("backends", ("vdcore",)))
        for module in (ROOT / folder).rglob("*.py")
    ]
    found = {".".join(module.parent.parts) for module in modules}
    assert listed == sorted(found)


def test_version_is_that_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    program = "import vdcore; print(vdcore.__version__)"
    assert run_python("-c", program).strip() == config["metadata"]["version"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build the sdist of a clean copy, and from the sdist the wheel."""
    pytest.importorskip("build", reason="needs the package `build`")
    pytest.importorskip("setuptools", "77", reason="needs setuptools >= 77")
    folder = tmp_path_factory.mktemp("dist")
    checkout = folder / "checkout"
    # An old *.egg-info would add its own list of files to the sdist.
    left_out = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "result", "results"
    )
    shutil.copytree(ROOT, checkout, ignore=left_out)
    options = ["--no-isolation", "--skip-dependency-check", "--outdir", str(folder)]
    run_python("-m", "build", *options, str(checkout), cwd=folder, path=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_wheel_from_sdist_has_the_backends_and_not_the_shim(distributions, tmp_path):
    _, wheel = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    modules = {
        path.relative_to(ROOT).as_posix()
        for ending in ("py", "cu", "cuh")
        for path in (ROOT / "backends").rglob(f"*.{ending}")
    }
    packed = {
        name.removeprefix("vdcore/")
        for name in names
        if name.startswith("vdcore/backends/")
    }
    assert packed == modules
    assert {"backends/sparse/model.py", "backends/cuda/noisy.cu"} <= modules
    packed_init = (tmp_path / "vdcore/backends/__init__.py").read_text("utf-8")
    assert packed_init == (ROOT / "backends/__init__.py").read_text("utf-8")
    assert "vdcore/py.typed" in names
    top_level = {name.split("/")[0] for name in names}
    assert {name for name in top_level if ".dist-info" not in name} == {"vdcore"}

    program = "from vdcore.backends import sparse_backend as s; print(s.__file__)"
    imported = run_python("-c", program, cwd=tmp_path, path=tmp_path).strip()
    assert Path(imported) == tmp_path / "vdcore/backends/sparse_backend.py"


def test_sdist_is_a_checkout_that_can_be_tested(distributions):
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "setup.cfg",
        "tests/test_packaging.py",
        "vdcore/backends/__init__.py",
    } <= names


def test_every_package_is_reachable_after_import_vdcore():
    program = """
import pkgutil
import vdcore
for module in pkgutil.iter_modules(vdcore.__path__):
    if module.ispkg:
        assert module.name in vdcore.__all__, module.name
        print(getattr(vdcore, module.name).__name__)
"""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    directly = [name for name in listed if name.count(".") == 1]
    assert run_python("-c", program).split() == directly


def test_import_vdcore_imports_no_other_library():
    program = f"""
import sys
import vdcore
print(*set("autograd {OPTIONAL}".split()) & set(sys.modules))
"""
    assert run_python("-c", program).split() == []


def test_no_module_of_vdcore_imports_an_optional_library():
    program = f"""
import importlib, pkgutil, sys
import vdcore
for module in pkgutil.walk_packages(vdcore.__path__, "vdcore."):
    if not module.name.startswith("vdcore.backends"):
        importlib.import_module(module.name)
print(*set("{OPTIONAL}".split()) & set(sys.modules))
"""
    assert run_python("-W", "error", "-c", program).split() == []


def test_backends_of_a_checkout_are_those_of_the_top_level_folder():
    program = "from vdcore.backends import sparse_backend as s; print(s.__file__)"
    imported = run_python("-c", program).strip()
    assert Path(imported) == ROOT / "backends/sparse_backend.py"
