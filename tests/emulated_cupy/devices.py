"""Devices: how many there are, which one is current, how much memory each has."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.emulated_cupy.errors import INVALID_DEVICE, CUDARuntimeError

GIB = 2**30


class _Machine:
    """What the tests may set."""

    device_count = 1
    memory_size = 16 * GIB  # of each device, in bytes


machine = _Machine()
allocated: dict[int, int] = {}  # bytes in use, by device
_thread = threading.local()


@contextmanager
def device_count(count: int) -> Iterator[None]:
    """Let there be so many devices inside a ``with`` block."""
    before, machine.device_count = machine.device_count, count
    try:
        yield
    finally:
        machine.device_count = before


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Let devices have so many bytes of memory inside a ``with`` block."""
    before, machine.memory_size = machine.memory_size, size
    try:
        yield
    finally:
        machine.memory_size = before


def current_id() -> int:
    """Number of the device that arrays are made on."""
    return getattr(_thread, "device", 0)


def set_current(device: int) -> None:
    """Make another device current."""
    if not 0 <= device < machine.device_count:
        raise CUDARuntimeError(INVALID_DEVICE)
    _thread.device = device


class Device:
    """A device by its number; a context manager that makes it current."""

    __module__ = "cupy.cuda.device"

    def __init__(self, device: Any = None) -> None:
        self.id = current_id() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(("device", self.id))

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def __enter__(self) -> Device:
        before = current_id()
        set_current(self.id)
        self._before.append(before)
        return self

    def __exit__(self, *exception: object) -> None:
        set_current(self._before.pop())

    def use(self) -> None:
        """Make the device current."""
        set_current(self.id)

    def synchronize(self) -> None:
        """Wait for all that was started on the device."""
        from tests.emulated_cupy.streams import synchronize_device

        with self:
            synchronize_device()

    @property
    def compute_capability(self) -> str:
        """Major and minor number of the architecture."""
        self._check()
        return "90"

    @property
    def attributes(self) -> dict[str, int]:
        """Those of CUDA's attributes that a launch may depend on."""
        self._check()
        return {
            "MultiProcessorCount": 4,
            "WarpSize": 32,
            "MaxThreadsPerBlock": 1024,
            "MaxSharedMemoryPerBlock": 48 * 1024,
            "MaxSharedMemoryPerBlockOptin": 227 * 1024,
        }

    @property
    def mem_info(self) -> tuple[int, int]:
        """Bytes of memory: free, and all."""
        self._check()
        used = allocated.get(self.id, 0)
        return machine.memory_size - used, machine.memory_size

    @property
    def pci_bus_id(self) -> str:
        """Where the device would be."""
        self._check()
        return f"0000:{self.id:02X}:00.0"

    def _check(self) -> None:
        if not 0 <= self.id < machine.device_count:
            raise CUDARuntimeError(INVALID_DEVICE)
