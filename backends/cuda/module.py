"""Kernels in CUDA C++: files beside this one, compiled when they are first needed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cupy
import numpy

from vdcore.variational.kl import EXACT_COEFFICIENTS, EXACT_SCALE, K1, K2, K3
from vdcore.variational.reparameterization import EPS

FOLDER = Path(__file__).parent
OPTIONS = ("--std=c++17",)
THREADS = 256  # of a block, unless a kernel says otherwise
CONSTANTS = {"EPS": EPS, "K1": K1, "K2": K2, "K3": K3, "EXACT_SCALE": EXACT_SCALE}


def source(name: str) -> str:
    """The text of a file of kernels, with what they have in common before it."""
    lines = [f"constexpr unsigned THREADS = {THREADS};"]
    lines += [f"constexpr float {name} = {x!r}f;" for name, x in CONSTANTS.items()]
    numbers = ", ".join(f"{x!r}f" for x in EXACT_COEFFICIENTS)
    lines.append(f"__device__ constexpr float EXACT_COEFFICIENTS[] = {{{numbers}}};")
    for file in ("common.cuh", f"{name}.cu"):
        # So that errors name the file, and the line within it.
        lines += [f'#line 1 "{file}"', (FOLDER / file).read_text("utf-8")]
    return "\n".join(lines)


class Module:
    """The kernels of one file.

    Parameters
    ----------
    name : str
        The file's, without ``.cu``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def launch(
        self, kernel: str, blocks: int, *arguments: Any, threads: int = THREADS
    ) -> None:
        """Start a kernel on so many blocks of threads, on the current stream.

        Parameters
        ----------
        kernel : str
        blocks : int
        *arguments
            Arrays; int for the type ``unsigned``, float for ``float``, None for a null
            pointer; structures as :mod:`vdcore.backends.cuda.arguments` makes them.
        threads : int
            In each block.
        """
        device = cupy.cuda.runtime.getDevice()
        function = _function(self.name, kernel, device)
        function((blocks,), (threads,), tuple(map(_converted, arguments)))


def blocks_for(threads: int) -> int:
    """How many blocks hold so many threads."""
    return -(-threads // THREADS)


@functools.cache
def _function(name: str, kernel: str, device: int) -> Any:
    return _compiled(name, device).get_function(kernel)


@functools.cache
def _compiled(name: str, device: int) -> Any:
    return cupy.RawModule(code=source(name), options=OPTIONS)


def _converted(argument: Any) -> Any:
    if isinstance(argument, int):
        return numpy.uint32(argument)
    if isinstance(argument, float):
        return numpy.float32(argument)
    return numpy.uintp(0) if argument is None else argument
