"""All kernels compile for the GPUs that they are for, by CUDA's run-time compiler.

That needs no GPU, but the compiler: the package nvidia-cuda-nvrtc.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import _skip

PACKAGES = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")
FOLDER = Path(__file__).resolve().parents[3] / "backends" / "cuda"
NAMES = sorted(path.stem for path in FOLDER.glob("*.cu"))
ARCHITECTURES = ("sm_80", "sm_90")
UNUSED = "--diag-suppress=177"  # constants and functions that a file does not need


class Compiled(NamedTuple):
    succeeded: bool
    log: str


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler, as a library of C functions."""
    for package in PACKAGES:
        try:
            distribution = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            if file.name.startswith("libnvrtc.so"):
                return ctypes.CDLL(str(distribution.locate_file(file)))
    return _skip("nvidia", "nvidia-cuda-nvrtc is not installed")


def compiled(nvrtc, code: str, *options: str) -> Compiled:
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    arguments = (code.encode(), b"kernels.cu", 0, None, None)
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), *arguments) == 0
    encoded = [option.encode() for option in options]
    array = (ctypes.c_char_p * len(encoded))(*encoded)
    status = nvrtc.nvrtcCompileProgram(program, len(encoded), array)
    assert nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
    log = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetProgramLog(program, log) == 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return Compiled(status == 0, log.value.decode())


@pytest.fixture
def module(cupy_library):
    """Where the backend's sources come from: it can be imported with CuPy only."""
    from vdcore.backends.cuda import module

    return module


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_compiles_without_warnings_or_spilt_registers(
    nvrtc, module, name, architecture
):
    options = (*module.OPTIONS, f"--gpu-architecture={architecture}", UNUSED)
    result = compiled(nvrtc, module.source(name), *options, "--ptxas-options=-v")
    assert result.succeeded, result.log
    assert "warning" not in result.log
    frames = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores", result.log
    )
    kernels = re.findall(r"__global__ void (\w+)", module.source(name))
    assert frames == [("0", "0")] * len(kernels), result.log


def test_an_error_is_one_of_the_file_that_has_it(nvrtc, module):
    code = module.source("activation").replace("return;", "return 1;")
    result = compiled(nvrtc, code, *module.OPTIONS, "--gpu-architecture=sm_90")
    assert not result.succeeded
    assert "activation.cu(" in result.log
