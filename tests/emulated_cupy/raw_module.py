"""``cupy.RawModule``: kernels of a CUDA C++ source, run on the CPU."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from tests.emulated_cupy import compilation, streams
from tests.emulated_cupy.array import ndarray
from tests.emulated_cupy.devices import current_id
from tests.emulated_cupy.errors import (
    BAD_LAUNCH,
    NO_SUCH_SYMBOL,
    CUDADriverError,
    UndefinedBehaviour,
)
from tests.emulated_cupy.memory import Memory, MemoryPointer, memory_at

MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
STATIC_SHARED_MEMORY = 48 * 1024  # bytes that a block has unless it asks for more
MAX_SHARED_MEMORY = 227 * 1024


class RawModule:
    """A compiled source.

    Parameters
    ----------
    code : str
        CUDA C++.
    options : tuple of str
        Of CUDA's run-time compiler.
    name_expressions : sequence of str, optional
        Kernels that are instances of templates, such as ``"fill<float>"``.
    """

    __module__ = "cupy._core.raw"

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Sequence[str] | None = None,
        jitify: bool | None = None,
    ) -> None:
        if code is None:
            message = "the emulated CuPy compiles `code` and loads no binaries"
            raise NotImplementedError(message)
        if not isinstance(code, str) or not isinstance(options, tuple):
            message = (
                f"RawModule: `code` must be str and `options` tuple, got "
                f"{type(code).__name__} and {type(options).__name__}"
            )
            raise TypeError(message)
        if translate_cucomplex or enable_cooperative_groups or backend != "nvrtc":
            message = "RawModule: the emulated CuPy has no such option"
            raise NotImplementedError(message)
        self.code = code
        self.options = options
        self.backend = backend
        self.name_expressions = tuple(name_expressions or ())
        self._library: _Library | None = None

    def compile(self, log_stream: Any = None) -> None:
        """Compile now, not when the first kernel is asked for."""
        self._compiled()

    def _compiled(self) -> _Library:
        path = compilation.compiled(self.code, self.options, self.name_expressions)
        self._library = _Library(path)
        return self._library

    def get_function(self, name: str) -> RawKernel:
        """The kernel of this name or expression."""
        library = self._library or self._compiled()
        if name not in library.kernels:
            raise CUDADriverError(NO_SUCH_SYMBOL)
        return RawKernel._of(library, name)


class RawKernel:
    """A kernel, called with the grid, the block and a tuple of arguments."""

    __module__ = "cupy._core.raw"

    def __init__(
        self,
        code: str,
        name: str,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
    ) -> None:
        module = RawModule(code=code, options=options, backend=backend)
        vars(self).update(vars(module.get_function(name)))

    @classmethod
    def _of(cls, library: _Library, name: str) -> RawKernel:
        kernel = cls.__new__(cls)
        kernel.name = kernel.__name__ = name  # type: ignore[attr-defined]
        kernel._library = library
        kernel._call, kernel.max_threads_per_block, kernel._types = library.kernels[
            name
        ]
        kernel.max_dynamic_shared_size_bytes = (
            STATIC_SHARED_MEMORY - library.static_shared_size
        )
        return kernel

    name: str
    _library: _Library
    _call: int
    _types: list[str]
    max_dynamic_shared_size_bytes: int
    max_threads_per_block: int

    @property
    def shared_size_bytes(self) -> int:
        """Static shared memory of all the module's kernels."""
        return self._library.static_shared_size

    def __call__(
        self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0
    ) -> None:
        """Run the kernel, or record it while the current stream captures."""
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            message = (
                f"{self.name}: `grid` and `block` must be tuples, got "
                f"{type(grid).__name__} and {type(block).__name__}"
            )
            raise TypeError(message)
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        self._check_sizes(grid, block, shared_mem)
        if len(args) != len(self._types):
            self._refuse(f"takes {len(self._types)} arguments, got {len(args)}")
        arguments = [
            self._argument(i, type_, x)
            for i, (type_, x) in enumerate(zip(self._types, args, strict=True))
        ]
        memories = [memory for argument in arguments for memory in argument.memories]
        sizes = (grid, block, shared_mem)
        call = _Call(self.name, self._library, self._call, sizes, arguments)
        streams.run(call, [memory._block for memory in memories])

    def _check_sizes(self, grid: tuple, block: tuple, shared_mem: int) -> None:
        if min(grid + block) < 1:
            self._refuse(
                f"is launched with an empty grid or block, {grid} and {block}, where "
                "CuPy launches a grid or block of 1"
            )
        if (
            math.prod(block) > self.max_threads_per_block
            or any(n > most for n, most in zip(block, MAX_BLOCK, strict=True))
            or any(n > most for n, most in zip(grid, MAX_GRID, strict=True))
            or shared_mem > self.max_dynamic_shared_size_bytes
            or shared_mem + self.shared_size_bytes > MAX_SHARED_MEMORY
        ):
            raise CUDADriverError(BAD_LAUNCH)

    def _argument(self, position: int, type_: str, x: Any) -> _Argument:
        where = f"argument {position} is {type_}"
        if type_.endswith("*"):
            return self._pointer(where, type_, x)
        if isinstance(x, numpy.ndarray) and x.size == 1:
            x = x.reshape(())[()]  # CuPy passes these by value
        if isinstance(x, numpy.void) and type_.startswith("struct"):
            if x.itemsize != int(type_.removeprefix("struct")):
                self._refuse(f"{where}, got {x.itemsize} bytes")
            return _structure(x.tobytes())
        if type(x) is bool:
            x = numpy.bool_(x)
        elif isinstance(x, int):  # CuPy passes 8 bytes of these
            x = numpy.int64(x)
        elif isinstance(x, float):
            x = numpy.float64(x)
        if not isinstance(x, numpy.generic) or x.dtype.name != type_:
            got = x.dtype.name if hasattr(x, "dtype") else type(x).__name__
            self._refuse(f"{where}, got {got}")
        return _Argument(x.tobytes())

    def _pointer(self, where: str, type_: str, x: Any) -> _Argument:
        if x is None or isinstance(x, int | numpy.uint64 | numpy.int64 | MemoryPointer):
            address = int(x or 0)
            memories = memory_at([address])
            if address and not memories:
                self._refuse(f"{where}, got an address of no array")
            return _Argument(_address(address), tuple(memories.values()))
        if not isinstance(x, ndarray):
            self._refuse(f"{where}, got {type(x).__name__}")
        if x.data.device_id != current_id():
            self._refuse(f"{where}, got an array of device {x.data.device_id}")
        element = type_.removeprefix("const ").removesuffix("*")
        element = re.sub(r"x\d$", "", element)  # the component of a vector
        takes_any = element in ("void", "uint8", "int8") or element.startswith("struct")
        if not takes_any and x.dtype.name != element:
            self._refuse(f"{where}, got an array of {x.dtype.name}")
        return _Argument(_address(x.data.ptr), (x.data.mem,), _extent(x))

    def _refuse(self, what: str) -> None:
        message = f"kernel {self.name}: {what}"
        raise UndefinedBehaviour(message)


class _Argument(NamedTuple):
    """An argument's bytes, and the memory that it leads to."""

    content: bytes
    memories: tuple[Memory, ...] = ()
    extent: tuple[int, int] | None = None  # of an array; the memory's if None

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Addresses that a kernel may use: from the first to after the last."""
        if self.extent is not None:
            return [self.extent]
        return [(memory.ptr, memory.ptr + memory.size) for memory in self.memories]


def _address(pointer: int) -> bytes:
    return numpy.uint64(pointer).tobytes()


def _structure(content: bytes) -> _Argument:
    """A structure; what looks like an address of an array in it is one."""
    words = numpy.frombuffer(content[: len(content) // 8 * 8], numpy.uint64)
    memories = memory_at(words.tolist())
    return _Argument(content, tuple({id(x): x for x in memories.values()}.values()))


def _extent(x: ndarray) -> tuple[int, int]:
    """Addresses from the first to after the last byte of an array."""
    if not x.size:
        return x.data.ptr, x.data.ptr
    steps = [(n - 1) * stride for n, stride in zip(x.shape, x.strides, strict=True)]
    begin = x.data.ptr + sum(step for step in steps if step < 0)
    end = x.data.ptr + sum(step for step in steps if step > 0) + x.itemsize
    return begin, end


class _Range(ctypes.Structure):
    _fields_ = (
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("argument", ctypes.c_int),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("call", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("ranges", ctypes.POINTER(_Range)),
        ("range_count", ctypes.c_size_t),
        ("dynamic_shared_size", ctypes.c_size_t),
    )


class _KernelEntry(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("types", ctypes.c_char_p),
        ("max_threads", ctypes.c_int),
        ("call", ctypes.c_void_p),
    )


class _Library:
    """A compiled module in memory.

    Attributes
    ----------
    kernels : dict
        From names to addresses, most threads of a block, types of the parameters.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # The interpreter's lock is kept: the scheduler runs one kernel at a time.
        library = ctypes.PyDLL(str(path))
        library.emulation_kernels.restype = ctypes.POINTER(_KernelEntry)
        library.emulation_launch.restype = ctypes.c_char_p
        library.emulation_static_shared_size.restype = ctypes.c_size_t
        self.launch: Callable = library.emulation_launch
        self.static_shared_size: int = library.emulation_static_shared_size()
        self.kernels: dict[str, tuple[int, int, list[str]]] = {}
        for entry in library.emulation_kernels():
            if entry.name is None:
                break
            types = [type_ for type_ in entry.types.decode().split(",") if type_]
            entry_of = (entry.call, entry.max_threads, types)
            self.kernels[entry.name.decode()] = entry_of


class _Call:
    """A kernel with its arguments, to be run once or, by a graph, many times."""

    def __init__(
        self,
        name: str,
        library: _Library,
        address: int,
        sizes: tuple,
        arguments: list[_Argument],
    ) -> None:
        self._name, self._library = name, library
        # Blocks stay, but not their tenancies: a graph holds no arrays.
        self._guarded = [
            (i, memory._block, memory.size)
            for i, argument in enumerate(arguments)
            for memory in argument.memories
        ]
        contents = [ctypes.create_string_buffer(x.content) for x in arguments]
        self._contents = contents
        pointers = (ctypes.c_void_p * len(contents))(*map(ctypes.addressof, contents))
        ranges = [
            (*addresses, i)
            for i, argument in enumerate(arguments)
            for addresses in argument.ranges
        ]
        grid, block, shared_mem = sizes
        self._launch = _Launch(
            call=address,
            arguments=pointers,
            grid=grid,
            block=block,
            ranges=(_Range * len(ranges))(*ranges),
            range_count=len(ranges),
            dynamic_shared_size=shared_mem,
        )

    def __call__(self) -> None:
        for _, block, size in self._guarded:
            block.guard(size)
        error = self._library.launch(ctypes.byref(self._launch))
        if error is not None:
            message = re.sub(r"@0x([0-9a-f]+)", self._source_line, error.decode())
            message = f"kernel {self._name}: {message}"
            raise UndefinedBehaviour(message)
        for position, block, size in self._guarded:
            if not block.is_intact(size):
                message = f"kernel {self._name}: writes outside argument {position}"
                raise UndefinedBehaviour(message)

    def _source_line(self, match: re.Match) -> str:
        line = compilation.source_line(self._library.path, int(match[1], 16))
        return f" ({line})"
