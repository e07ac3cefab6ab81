"""CUDA C++ compiled by g++ into a shared library, which a later session finds again."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.emulated_cupy.errors import CompileException

SHIM = Path(__file__).parent
HEADERS = {"math_constants.h"}  # that a kernel may include
FLAGS = (
    "-x c++ -O1 -g1 -gdwarf-4 -fPIC -fvisibility=hidden -fno-strict-aliasing "
    "-ffp-contract=off -fcf-protection=none -fmax-errors=5 -U_FORTIFY_SOURCE -w"
).split()
# Each access to memory, and what C++ leaves undefined, calls into the scheduler. Sizes
# of stack frames and global variables are left as they are.
CHECKS = (
    "-fsanitize=kernel-address --param=asan-instrumentation-with-call-threshold=0 "
    "--param=asan-stack=0 --param=asan-globals=0 "
    "-fsanitize=bounds,alignment,null,shift,integer-divide-by-zero,"
    "signed-integer-overflow"
).split()
# Options of CUDA's run-time compiler that do not change what a kernel means.
IGNORED_OPTIONS = re.compile(
    r"--?(use_fast_math|ftz|prec-div|prec-sqrt|fmad|maxrregcount|lineinfo|"
    r"generate-line-info|extra-device-vectorization|restrict|dopt|default-device|"
    r"device-as-default-execution-space|split-compile|minimal|Xptxas|ptxas-options)\b.*"
)
# Names that its standard headers would define, which CUDA's run-time compiler lacks.
UNKNOWN_NAMES = re.compile(
    r"(?<![\w:])(?:std\s*::|u?int(?:8|16|32|64)_t\b|uint\b|ushort\b|ulong\b)"
)
LINKAGE = re.compile(r'extern\s*"C"\s*\{')
BOUNDS = r"(?:__launch_bounds__\s*\((?P<%s>[^(),]*)[^()]*\)\s*)?"
KERNEL = re.compile(
    r'(?P<linkage>extern\s*"C"\s+)?'
    r"(?P<template>template\s*<[^;{}]*>\s*)?"
    rf"(?:static\s+)?__global__\s+{BOUNDS % 'before'}"
    rf"void\s+{BOUNDS % 'after'}(?P<name>\w+)\s*\("
)
DYNAMIC_SHARED = re.compile(
    r"\bextern\s+__shared__\s+(?:__align__\s*\([^()]*\)\s*)?"
    r"(?P<type>[\w\s]*\w)\s+(?P<name>\w+)\s*\[\s*\]\s*;"
)
MAX_THREADS = "1024"  # of a block


def compiler() -> str | None:
    """Path of g++; None where there is none."""
    return shutil.which("g++")


def compiled(code: str, options: Sequence[str], expressions: Sequence[str]) -> Path:
    """A shared library with the kernels of a source.

    Parameters
    ----------
    code : str
        CUDA C++.
    options : sequence of str
        Of CUDA's run-time compiler.
    expressions : sequence of str
        Kernels by C++ expressions, such as ``"fill<float>"``, besides those that
        ``extern "C"`` names.

    Raises
    ------
    CompileException
        If the source is not CUDA C++ or an option is unknown.
    """
    parts = (_key_of_shim(), code, *options, "|", *expressions)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    library = _cache() / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as folder:
            built = _build(code, _translated(options), expressions, Path(folder))
            built.replace(library)
    return library


def source_line(library: Path, offset: int) -> str:
    """Where in its source a library's code at `offset` is: ``"kernel.cu:12"``."""
    command = ["addr2line", "-e", str(library), hex(offset - 1)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    # Some lines are followed by "(discriminator 2)", for parts of them.
    return (found.stdout.split() or ["?"])[0].rpartition("/")[2]


def _build(
    code: str, options: list[str], expressions: Sequence[str], folder: Path
) -> Path:
    code = _checked_includes(code)
    kernels = _kernels(code, options) | dict.fromkeys(expressions, MAX_THREADS)
    table = "".join(
        f'        emulation::describe<{name}>("{name}", {threads}, {name}),\n'
        for name, threads in kernels.items()
    )
    source = folder / "module.cpp"
    # An unnamed namespace gives templates internal linkage, without which their shared
    # memory cannot be put in one section.
    source.write_text(
        f"{_includes(code)}"
        '#include "cuda_on_host.h"\n'
        "namespace {\n"
        f'#line 1 "kernel.cu"\n{_with_dynamic_memory(_without_includes(code))}\n'
        "}\n"
        'extern "C" __attribute__((visibility("default")))\n'
        "const emulation::Kernel* emulation_kernels() {\n"
        "    static const emulation::Kernel kernels[] = {\n"
        f"{table}"
        "        {nullptr, nullptr, 0, nullptr}};\n"
        "    return kernels;\n"
        "}\n"
    )
    module, library = folder / "module.o", folder / "module.so"
    _run(*FLAGS, *CHECKS, *options, f"-I{SHIM}", "-c", source, "-o", module)
    _run("-shared", "-Wl,-Bsymbolic", module, _scheduler(), "-o", library)
    return library


@functools.cache
def _scheduler() -> Path:
    """The object file that all libraries are linked with."""
    result = _cache() / f"{_key_of_shim()}.o"
    if not result.exists():
        handle, built = tempfile.mkstemp(dir=_cache())
        os.close(handle)
        flags = [*FLAGS, "-std=c++17", "-O2"]
        _run(*flags, "-c", SHIM / "block_scheduler.cpp", "-o", built)
        Path(built).replace(result)
    return result


@functools.cache
def _key_of_shim() -> str:
    parts = [platform.machine(), *FLAGS, *CHECKS, Path(__file__).read_text()]
    parts += [path.read_text() for path in sorted(SHIM.glob("*.h"))]
    parts += [path.read_text() for path in sorted(SHIM.glob("*.cpp"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@functools.cache
def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"vdcore-emulated-cupy-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        message = f"{folder}, where compiled kernels are kept, belongs to another user"
        raise PermissionError(message)
    return folder


def _run(*arguments: object) -> str:
    command = [compiler() or "g++", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise CompileException(result.stderr.strip())
    return result.stdout


def _translated(options: Sequence[str]) -> list[str]:
    """Options of g++ from those of CUDA's compiler."""
    translated = []
    standard = "-std=c++17"
    for option in options:
        if match := re.fullmatch(r"--?(?:std|gpu-architecture)=(.*)", option):
            if match[1] in ("c++20", "c++23"):
                standard = f"-std={match[1]}"
        elif match := re.fullmatch(r"(?:-D|--define-macro=)(.*)", option):
            translated.append(f"-D{match[1]}")
        elif match := re.fullmatch(r"(?:-U|--undefine-macro=)(.*)", option):
            translated.append(f"-U{match[1]}")
        elif not IGNORED_OPTIONS.fullmatch(option):
            message = f"nvrtc: error: unrecognized option {option} found"
            raise CompileException(message)
    return [standard, *translated]


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]*)[>"].*$', re.MULTILINE)


def _checked_includes(code: str) -> str:
    for name in _INCLUDE.findall(code):
        if name not in HEADERS:
            message = (
                f'kernel.cu: catastrophic error: cannot open source file "{name}" '
                f"(there are {', '.join(sorted(HEADERS))})"
            )
            raise CompileException(message)
    return code


def _includes(code: str) -> str:
    return "".join(f'#include "{name}"\n' for name in _INCLUDE.findall(code))


def _without_includes(code: str) -> str:
    return _INCLUDE.sub("", code)


def _with_dynamic_memory(code: str) -> str:
    """Shared memory whose size the launch decides, as a pointer."""
    return DYNAMIC_SHARED.sub(
        r"\g<type>* const \g<name> = "
        r"static_cast<\g<type>*>(emulation::dynamic_shared_memory());",
        code,
    )


def _kernels(code: str, options: list[str]) -> dict[str, str]:
    """Kernels with C linkage: names, and expressions for their most threads."""
    flags = [option for option in options if option.startswith(("-D", "-U"))]
    with tempfile.NamedTemporaryFile("w", suffix=".cpp") as file:
        file.write(_without_includes(code))
        file.flush()
        defined = ("-D__CUDACC_RTC__", "-D__CUDACC__", "-D__CUDA_ARCH__=900")
        text = _run("-E", "-P", "-x", "c++", *defined, *flags, file.name)
    if unknown := UNKNOWN_NAMES.search(_without_strings(text)):
        message = f'kernel.cu: error: identifier "{unknown[0]}" is undefined'
        raise CompileException(message)
    blocks = [_block(text, match.end()) for match in LINKAGE.finditer(text)]
    return {
        match["name"]: match["before"] or match["after"] or MAX_THREADS
        for match in KERNEL.finditer(text)
        if not match["template"]
        and (match["linkage"] or any(match.start() in block for block in blocks))
    }


def _without_strings(text: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


def _block(text: str, start: int) -> range:
    """From after an opening brace to its closing one."""
    depth, end = 1, start
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return range(start, end)
