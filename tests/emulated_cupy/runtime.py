"""``cupy.cuda.runtime``: what CUDA's runtime says of devices."""

from __future__ import annotations

from typing import Any

from tests.emulated_cupy import devices, streams
from tests.emulated_cupy.errors import (
    INVALID_DEVICE,
    INVALID_VALUE,
    NO_DEVICE,
    CUDARuntimeError,
)

__all__ = [
    "CUDARuntimeError",
    "deviceGetAttribute",
    "deviceSynchronize",
    "driverGetVersion",
    "eventDisableTiming",
    "getDevice",
    "getDeviceCount",
    "getDeviceProperties",
    "is_hip",
    "memGetInfo",
    "profilerStart",
    "profilerStop",
    "runtimeGetVersion",
    "setDevice",
    "streamCaptureModeGlobal",
    "streamCaptureModeRelaxed",
    "streamCaptureModeThreadLocal",
    "streamSynchronize",
]

is_hip = False
eventDisableTiming = 2
streamCaptureModeGlobal = 0
streamCaptureModeThreadLocal = 1
streamCaptureModeRelaxed = 2
_VERSION = 13000


def getDeviceCount() -> int:
    """How many devices there are."""
    if not devices.machine.device_count:
        raise CUDARuntimeError(NO_DEVICE)
    return devices.machine.device_count


def getDevice() -> int:
    """Number of the current device."""
    return devices.current_id()


def setDevice(device: int) -> None:
    """Make a device current."""
    devices.set_current(device)


def getDeviceProperties(device: int) -> dict[str, Any]:
    """What a device is called and can do."""
    if not 0 <= device < getDeviceCount():
        raise CUDARuntimeError(INVALID_DEVICE)
    return {
        "name": b"emulated",
        "major": 9,
        "minor": 0,
        "multiProcessorCount": 4,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "sharedMemPerBlock": 48 * 1024,
        "totalGlobalMem": devices.machine.memory_size,
    }


def deviceGetAttribute(attrib: int, device: int) -> int:
    """One of the attributes that are known by number."""
    known = {1: 1024, 8: 48 * 1024, 10: 32, 16: 4, 75: 9, 76: 0, 97: 227 * 1024}
    if attrib not in known:
        raise CUDARuntimeError(INVALID_VALUE)
    return known[attrib]


def memGetInfo() -> tuple[int, int]:
    """Bytes of the current device: free, and all."""
    return devices.Device().mem_info


def driverGetVersion() -> int:
    """Version of the driver."""
    return _VERSION


def runtimeGetVersion() -> int:
    """Version of the runtime."""
    return _VERSION


def deviceSynchronize() -> None:
    """Wait for all work of the current device."""
    streams.synchronize_device()


def streamSynchronize(ptr: int) -> None:
    """Wait for the work of a stream, the current one or one that does not capture."""
    if streams.current_stream().ptr == ptr:
        streams.synchronize()


def profilerStart() -> None:
    """Do nothing."""


def profilerStop() -> None:
    """Do nothing."""
