"""Device memory: blocks between guards, pools that lend them, pointers into them."""

from __future__ import annotations

import bisect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy

from tests.emulated_cupy import devices
from tests.emulated_cupy.errors import OutOfMemoryError
from tests.emulated_cupy.streams import current_stream, run

UNIT = 512  # bytes: sizes are rounded up to it, and addresses are multiples of it
# NaNs in float32 and in float64, and a large integer, unlikely to be written by chance.
GUARD = numpy.frombuffer(b"\xa5\xa5\xff\x7f" * (UNIT // 4), numpy.uint8)
POISON = 0xFF  # bytes of a NaN, and of -1


class Block:
    """Memory that was got from a device.

    Attributes
    ----------
    owner : numpy.ndarray
        All bytes, guards included; the base of every view.
    size : int
        Bytes between the guards at most.
    tenancies : int
        How often it was lent.
    in_use, released : bool
        Whether it is lent now; whether it was given back to the device.
    is_private : bool
        Whether it belongs to a pool other than the default one.
    """

    def __init__(self, size: int, is_private: bool) -> None:
        self.device_id = devices.current_id()
        self.size = -(-size // UNIT) * UNIT
        self.owner = numpy.empty(self.size + 3 * UNIT, numpy.uint8)
        start = UNIT + -self.owner.ctypes.data % UNIT
        self._guarded = self.owner[start - UNIT : start + self.size + UNIT]
        self.tenancies = 0
        self.in_use = self.released = False
        self.is_private = is_private
        used = devices.allocated.get(self.device_id, 0) + self.size
        if used > devices.machine.memory_size:
            raise OutOfMemoryError(self.size, used - self.size)
        devices.allocated[self.device_id] = used

    def lend(self, nbytes: int) -> numpy.ndarray:
        """So many bytes for a new array, with garbage in them."""
        self.tenancies += 1
        self.in_use = True
        end = UNIT + nbytes
        self._guarded[UNIT:end] = POISON
        self.guard(nbytes)
        return self._guarded[UNIT:end]

    def guard(self, nbytes: int) -> None:
        """Put guards around so many bytes: a graph goes through all its tenants."""
        end = UNIT + nbytes
        self._guarded[:UNIT] = GUARD
        self._guarded[end:] = numpy.resize(GUARD, len(self._guarded) - end)

    def is_intact(self, nbytes: int) -> bool:
        """Whether nothing was written before or after the bytes lent."""
        tail = self._guarded[UNIT + nbytes :]
        return (
            self._guarded[:UNIT].tobytes() == GUARD.tobytes()
            and tail.tobytes() == numpy.resize(GUARD, len(tail)).tobytes()
        )

    def release(self) -> None:
        """Give it back to the device."""
        if not self.released:
            self.released = True
            devices.allocated[self.device_id] -= self.size


class Memory:
    """Bytes of a block that are lent until this object dies."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, block: Block, nbytes: int, give_back: Callable) -> None:
        self._block = block
        self.size = nbytes
        self._bytes = block.lend(nbytes)
        self.ptr = self._bytes.ctypes.data
        self.device_id = block.device_id
        _alive[self.ptr] = self
        weakref.finalize(self, give_back, block).atexit = False


_alive: weakref.WeakValueDictionary[int, Memory] = weakref.WeakValueDictionary()


def memory_at(addresses: Iterable[int]) -> dict[int, Memory]:
    """The memory that addresses lie in, by address; none for other numbers."""
    memories = sorted(_alive.values(), key=lambda memory: memory.ptr)
    starts = [memory.ptr for memory in memories]
    found = {}
    for address in addresses:
        place = bisect.bisect_right(starts, address) - 1
        if place >= 0 and address < starts[place] + memories[place].size:
            found[address] = memories[place]
    return found


class MemoryPointer:
    """A place in device memory."""

    __module__ = "cupy.cuda.memory"

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self._offset = offset

    @property
    def ptr(self) -> int:
        """Address."""
        return self.mem.ptr + self._offset

    @property
    def device_id(self) -> int:
        """Number of the device."""
        return self.mem.device_id

    @property
    def device(self) -> devices.Device:
        """The device."""
        return devices.Device(self.mem.device_id)

    def __int__(self) -> int:
        return self.ptr

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self._offset + offset)

    def __sub__(self, offset: int) -> MemoryPointer:
        return self + -offset

    def _bytes(self, size: int) -> numpy.ndarray:
        """The next so many bytes, for the emulation only."""
        return self.mem._bytes[self._offset : self._offset + size]

    def memset(self, value: int, size: int) -> None:
        """Set bytes."""
        target = self._bytes(size)
        run(lambda: target.fill(value), [self.mem._block])

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        """Set bytes."""
        target = self._bytes(size)
        stream = stream or current_stream()
        stream._run(lambda: target.fill(value), [self.mem._block])

    def copy_from_device(self, src: MemoryPointer, size: int) -> None:
        """Copy bytes from device memory."""
        self.copy_from_device_async(src, size)

    def copy_from_device_async(
        self, src: MemoryPointer, size: int, stream: Any = None
    ) -> None:
        """Copy bytes from device memory."""
        target, source = self._bytes(size), src._bytes(size)
        stream = stream or current_stream()
        blocks = [self.mem._block, src.mem._block]
        stream._run(lambda: numpy.copyto(target, source), blocks)


class MemoryPool:
    """Memory that is lent again when an array is done with it.

    A block is lent to later work of the stream that it was first lent to.
    """

    __module__ = "cupy.cuda.memory"

    def __init__(self, allocator: Callable | None = None) -> None:
        self._free: dict[tuple[int, int, int], list[Block]] = {}
        self._used: dict[int, int] = {}  # bytes, by device
        self._limits: dict[int, int] = {}
        weakref.finalize(self, _release_all, self._free).atexit = False

    def malloc(self, size: int) -> MemoryPointer:
        """Lend memory."""
        device = devices.current_id()
        rounded = max(UNIT, -(-size // UNIT) * UNIT)
        free = self._free.setdefault((device, current_stream().ptr, rounded), [])
        if free:
            # The garbage put into it must come after what the stream has put off.
            current_stream()._queue.finish()
        block = free.pop() if free else self._new_block(rounded)
        self._used[device] = self._used.get(device, 0) + rounded
        give_back = _GiveBack(weakref.ref(self), free, self._used)
        return MemoryPointer(Memory(block, size, give_back), 0)

    def _new_block(self, size: int) -> Block:
        limit = self.get_limit()
        for attempt in ("as it is", "with nothing kept"):
            try:
                if limit and self.total_bytes() + size > limit:
                    raise OutOfMemoryError(size, self.total_bytes(), limit)
                return Block(size, self is not default_pool)
            except OutOfMemoryError:
                if attempt == "with nothing kept":
                    raise
                self.free_all_blocks()
        raise AssertionError

    def free_all_blocks(self, stream: Any = None) -> None:
        """Give the device back what is not lent."""
        for (device, ptr, _), blocks in self._free.items():
            is_its = stream is None or stream.ptr == ptr
            if device == devices.current_id() and is_its:
                _release_all({None: blocks})

    def n_free_blocks(self) -> int:
        """Blocks that are not lent."""
        return sum(len(blocks) for blocks in self._here())

    def used_bytes(self) -> int:
        """Bytes that are lent."""
        return self._used.get(devices.current_id(), 0)

    def free_bytes(self) -> int:
        """Bytes that are not lent."""
        return sum(block.size for blocks in self._here() for block in blocks)

    def total_bytes(self) -> int:
        """Bytes that the device has given."""
        return self.used_bytes() + self.free_bytes()

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        """Set how many bytes the pool may get from the device; 0: as many as it has."""
        if fraction is not None:
            size = int(fraction * devices.machine.memory_size)
        self._limits[devices.current_id()] = size or 0

    def get_limit(self) -> int:
        """How many bytes the pool may get from the device."""
        return self._limits.get(devices.current_id(), 0)

    def _here(self) -> list[list[Block]]:
        here = devices.current_id()
        return [blocks for (device, *_), blocks in self._free.items() if device == here]


class _GiveBack:
    """Return a block to its pool, or to the device where the pool is no more."""

    def __init__(self, pool: weakref.ref, free: list[Block], used: dict) -> None:
        self._pool, self._free, self._used = pool, free, used

    def __call__(self, block: Block) -> None:
        block.in_use = False
        self._used[block.device_id] -= block.size
        if self._pool() is None:
            block.release()
        else:
            self._free.append(block)


def _release_all(free: dict[Any, list[Block]]) -> None:
    for blocks in free.values():
        for block in blocks:
            block.release()
        blocks.clear()


def _release(block: Block) -> None:
    block.in_use = False
    block.release()


def malloc(size: int) -> MemoryPointer:
    """Get memory from the device, and give it back as soon as the array is done."""
    return MemoryPointer(Memory(Block(size, is_private=False), size, _release), 0)


default_pool = MemoryPool()
_allocator: Callable[[int], MemoryPointer] = default_pool.malloc
_thread = threading.local()


def get_allocator() -> Callable[[int], MemoryPointer]:
    """Where the memory of new arrays comes from."""
    return getattr(_thread, "allocator", None) or _allocator


def set_allocator(allocator: Callable[[int], MemoryPointer] | None = None) -> None:
    """Set where the memory of new arrays comes from; None: the device itself."""
    global _allocator
    if getattr(_thread, "allocator", None) is not None:
        message = (
            "Can't change the global allocator inside `using_allocator` context manager"
        )
        raise ValueError(message)
    _allocator = allocator or malloc


@contextmanager
def using_allocator(
    allocator: Callable[[int], MemoryPointer] | None = None,
) -> Iterator[None]:
    """Take memory for this thread's new arrays from elsewhere in a ``with`` block."""
    before = getattr(_thread, "allocator", None)
    _thread.allocator = allocator or malloc
    try:
        yield
    finally:
        _thread.allocator = before


def alloc(size: int) -> MemoryPointer:
    """Memory from the current allocator."""
    return get_allocator()(size)
