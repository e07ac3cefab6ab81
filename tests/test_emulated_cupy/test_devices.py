"""Devices, their memory, and counts of what moves to and from them."""

from __future__ import annotations

import importlib.util

import numpy
import pytest

from tests.emulated_cupy.errors import CUDARuntimeError, OutOfMemoryError
from vdcore.arrays import to_device


def test_a_device_that_is_not_there(cupy, emulation):
    message = "cudaErrorInvalidDevice: invalid device ordinal"
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match=message):
        cupy.cuda.Device(1).use()
    with emulation.device_count(0):
        with pytest.raises(CUDARuntimeError, match="cudaErrorNoDevice"):
            cupy.cuda.runtime.getDeviceCount()
        assert not cupy.cuda.is_available()
        assert not cupy.is_available()
        with pytest.raises(CUDARuntimeError):
            cupy.cuda.runtime.getDeviceProperties(0)


def test_two_devices(cupy, emulation):
    with emulation.device_count(2):
        assert cupy.cuda.runtime.getDeviceCount() == 2
        x = to_device(numpy.ones(2), "cuda:1")
        assert x.device == cupy.cuda.Device(1)
        assert (x.device.id, cupy.cuda.Device().id) == (1, 0)
        with pytest.raises(ValueError, match="Array device must be same"):
            x + 1
        y = to_device(x, 0)
        assert y.device.id == 0
        assert (y + 1).tolist() == [2, 2]
        with cupy.cuda.Device(1):
            assert (x + 1).device.id == 1
            assert cupy.cuda.runtime.getDevice() == 1
        assert x.tolist() == [1, 1]
        stream = cupy.cuda.Stream()
        with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="does not match"):
            stream.use()


def test_what_a_device_says_of_itself(cupy, emulation):
    device = cupy.cuda.Device(0)
    assert device.compute_capability == "90"
    assert cupy.cuda.runtime.getDeviceProperties(0)["name"] == b"emulated"
    assert device.attributes["WarpSize"] == 32
    free, total = device.mem_info
    assert 0 < free <= total == cupy.cuda.runtime.memGetInfo()[1]
    assert cupy.cuda.runtime.driverGetVersion() > 12000


def test_memory_runs_out(cupy, emulation):
    pool = cupy.cuda.MemoryPool()
    free, total = cupy.cuda.Device().mem_info
    limit = emulation.memory_limit(total - free + 4096)
    with limit, cupy.cuda.using_allocator(pool.malloc):
        x = cupy.zeros(512, numpy.float32)
        with pytest.raises(
            OutOfMemoryError, match="Out of memory allocating 4,096 byte"
        ):
            cupy.zeros(1024, numpy.float32)
        del x
        cupy.zeros(1024, numpy.float32)  # from what the pool kept
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)


def test_pools(cupy, emulation):
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.zeros(100, numpy.float32)
        assert (pool.used_bytes(), pool.free_bytes(), pool.total_bytes()) == (
            512,
            0,
            512,
        )
        address = x.data.ptr
        assert address % 512 == 0
        del x
        assert (pool.used_bytes(), pool.free_bytes(), pool.n_free_blocks()) == (
            0,
            512,
            1,
        )
        y = cupy.zeros(10)
        assert y.data.ptr == address
        pool.set_limit(1024)
        with pytest.raises(OutOfMemoryError, match="limit set to: 1,024 bytes"):
            cupy.zeros(1000)
    del y
    pool.free_all_blocks()
    assert pool.total_bytes() == 0
    assert cupy.get_default_memory_pool().used_bytes() >= 0
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def test_views_keep_memory(cupy, emulation):
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        x = cupy.arange(10)
        view = x[5:]
        del x
        cupy.zeros(10)
        assert view.tolist() == [5, 6, 7, 8, 9]


def test_transfers_are_counted(cupy, emulation):
    x = cupy.zeros(3)
    with emulation.transfers() as moved:
        y = cupy.exp(x) + 1
        y[...] = 2.0
        y[0] = x[1]
        cupy.full((), 3.0)
    assert (moved.to_device, moved.to_host, moved.synchronizations) == (0, 0, 0)
    assert moved.launches > 0
    with emulation.transfers() as moved:
        cupy.asarray(numpy.ones(3))
        cupy.asarray([1, 2])
        x.set(numpy.ones(3))
        x[[0, 1]]
    assert (moved.to_device, moved.to_host, moved.synchronizations) == (4, 0, 0)
    with emulation.transfers() as moved:
        x.get()
        float(x[0])
        assert x[x > 0].shape == (3,)
        cupy.cuda.Device().synchronize()
    assert (moved.to_device, moved.to_host, moved.synchronizations) == (0, 2, 4)


def test_pinned_memory(cupy, emulation):
    import cupyx

    memory = cupy.cuda.alloc_pinned_memory(16)
    values = numpy.frombuffer(memory, numpy.float32, 4)
    values[...] = 3
    assert (memory.size(), memory.ptr) == (16, values.ctypes.data)
    x = cupy.empty(4, numpy.float32)
    x.set(values, stream=cupy.cuda.Stream())
    assert x.tolist() == [3, 3, 3, 3]
    assert cupyx.zeros_pinned((2, 3), "f4").tolist() == [[0] * 3] * 2
    assert cupyx.empty_like_pinned(values).dtype == numpy.float32


def test_it_is_installed_once(cupy, emulation):
    assert importlib.import_module("cupy") is cupy
    with pytest.raises(RuntimeError, match="cupy is imported already"):
        emulation.install()


def test_what_does_nothing(cupy, emulation):
    with cupy.cuda.profile():
        cupy.cuda.profiler.start()
        cupy.cuda.nvtx.RangePush("part")
        cupy.cuda.nvtx.RangePop()
        cupy.cuda.profiler.stop()
