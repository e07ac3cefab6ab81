"""The modules by which emulated CuPy is imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy

from tests.emulated_cupy import (
    cublas,
    devices,
    errors,
    graphs,
    memory,
    operators,
    pinned_memory,
    random_numbers,
    raw_module,
    runtime,
    streams,
)
from tests.emulated_cupy.array import computed, ndarray
from tests.emulated_cupy.functions import NAMESPACE, ufunc

FROM_NUMPY = (
    "bool bool_ byte cdouble complex128 complex64 complexfloating csingle double "
    "dtype e euler_gamma finfo float16 float32 float64 floating generic half iinfo "
    "inexact inf int16 int32 int64 int8 int_ intc integer intp long longlong nan "
    "newaxis number pi short signedinteger single ubyte uint uint16 uint32 uint64 "
    "uint8 uintc uintp ulong ulonglong unsignedinteger ushort"
).split()
LINALG = (
    "LinAlgError cholesky cond det eigh eigvalsh inv lstsq matrix_power matrix_rank "
    "norm pinv qr slogdet solve svd"
).split()
FFT = (
    "fft fft2 fftfreq fftn fftshift hfft ifft ifft2 ifftn ifftshift ihfft irfft irfft2 "
    "irfftn rfft rfft2 rfftfreq rfftn"
).split()


def install() -> None:
    """Let ``import cupy`` find the emulated CuPy, in this process."""
    if "cupy" in sys.modules:
        message = "emulated_cupy.install: cupy is imported already"
        raise RuntimeError(message)
    operators.define()
    for module in (_cupy(), *_cuda(), *_submodules(), _cupyx()):
        sys.modules[module.__name__] = module
    for name in [name for name in sys.modules if name.startswith("cupy.")]:
        parent, _, child = name.rpartition(".")
        setattr(sys.modules[parent], child, sys.modules[name])


def _module(name: str, is_package: bool = False, **contents: Any) -> ModuleType:
    module = ModuleType(name, "Part of the emulated CuPy.")
    module.__spec__ = ModuleSpec(name, None, is_package=is_package)
    if is_package:
        module.__path__ = []
    vars(module).update(contents)
    return module


def _cupy() -> ModuleType:
    return _module(
        "cupy",
        is_package=True,
        __version__="14.2.0",
        ndarray=ndarray,
        ufunc=ufunc,
        RawModule=raw_module.RawModule,
        RawKernel=raw_module.RawKernel,
        AxisError=numpy.exceptions.AxisError,
        get_default_memory_pool=lambda: memory.default_pool,
        get_default_pinned_memory_pool=lambda: pinned_memory.default_pool,
        is_available=is_available,
        **{name: getattr(numpy, name) for name in FROM_NUMPY},
        **NAMESPACE,
    )


def is_available() -> bool:
    """Whether there is a device."""
    return devices.machine.device_count > 0


def _cuda() -> list[ModuleType]:
    parts = [
        _module("cupy.cuda.runtime", **_public(runtime)),
        _module("cupy.cuda.device", Device=devices.Device),
        _module("cupy.cuda.driver", CUDADriverError=errors.CUDADriverError),
        _module("cupy.cuda.compiler", CompileException=errors.CompileException),
        _module("cupy.cuda.graph", Graph=graphs.Graph),
        _module(
            "cupy.cuda.stream",
            Event=streams.Event,
            ExternalStream=streams.ExternalStream,
            Stream=streams.Stream,
            get_current_stream=streams.current_stream,
            get_elapsed_time=streams.get_elapsed_time,
        ),
        _module(
            "cupy.cuda.memory",
            CUDARuntimeError=errors.CUDARuntimeError,
            Memory=memory.Memory,
            MemoryPointer=memory.MemoryPointer,
            MemoryPool=memory.MemoryPool,
            OutOfMemoryError=errors.OutOfMemoryError,
            alloc=memory.alloc,
            get_allocator=memory.get_allocator,
            set_allocator=memory.set_allocator,
        ),
        _module(
            "cupy.cuda.pinned_memory",
            PinnedMemoryPool=pinned_memory.PinnedMemoryPool,
            alloc_pinned_memory=pinned_memory.alloc_pinned_memory,
        ),
        _module("cupy.cuda.nvtx", **_nvtx()),
        _module("cupy.cuda.profiler", start=_nothing, stop=_nothing),
        _module("cupy.cuda.cublas", **_public(cublas)),
    ]
    cuda = _module(
        "cupy.cuda",
        is_package=True,
        Device=devices.Device,
        Event=streams.Event,
        ExternalStream=streams.ExternalStream,
        Graph=graphs.Graph,
        Memory=memory.Memory,
        MemoryPointer=memory.MemoryPointer,
        MemoryPool=memory.MemoryPool,
        PinnedMemoryPool=pinned_memory.PinnedMemoryPool,
        Stream=streams.Stream,
        alloc=memory.alloc,
        alloc_pinned_memory=pinned_memory.alloc_pinned_memory,
        get_allocator=memory.get_allocator,
        get_cublas_handle=cublas.get_cublas_handle,
        get_current_stream=streams.current_stream,
        get_device_id=devices.current_id,
        get_elapsed_time=streams.get_elapsed_time,
        is_available=is_available,
        profile=_profile,
        set_allocator=memory.set_allocator,
        using_allocator=memory.using_allocator,
    )
    return [cuda, *parts]


def _public(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _nvtx() -> dict[str, Any]:
    names = "Mark MarkC RangeEnd RangePop RangePush RangePushC RangeStart".split()
    return {"available": False} | dict.fromkeys(names, _nothing)


@contextmanager
def _profile() -> Iterator[None]:
    yield


def _submodules() -> list[ModuleType]:
    products = {name: NAMESPACE[name] for name in ("matmul", "matrix_transpose")}
    linalg = {name: _of_numpy(numpy.linalg, name) for name in LINALG} | products
    return [
        _module("cupy.linalg", __all__=[*linalg], **linalg),
        _module("cupy.fft", **{name: _of_numpy(numpy.fft, name) for name in FFT}),
        _module("cupy.random", **_public(random_numbers)),
    ]


def _of_numpy(module: Any, name: str) -> Any:
    function = getattr(module, name)
    if isinstance(function, type):
        return function

    def call(*args: Any, **kwargs: Any) -> Any:
        return computed(function, *args, **kwargs)

    call.__name__ = name
    return call


def _cupyx() -> ModuleType:
    names = "empty_pinned zeros_pinned empty_like_pinned zeros_like_pinned".split()
    pinned: dict[str, Callable] = {name: getattr(pinned_memory, name) for name in names}

    def scatter_add(a: ndarray, slices: Any, value: Any) -> None:
        a.scatter_add(slices, value)

    def rsqrt(x: ndarray) -> ndarray:
        return computed(lambda values: 1 / numpy.sqrt(values), x)

    return _module("cupyx", scatter_add=scatter_add, rsqrt=rsqrt, **pinned)
