"""CuPy without a GPU: its arrays are NumPy's, its kernels are compiled by g++.

What would go wrong with CuPy goes wrong here too, and some of what would go wrong
unnoticed on a device is an error, :class:`UndefinedBehaviour`: accesses outside of a
kernel's arguments, races for shared memory, barriers and shuffles that not all threads
reach, arguments of the wrong type, memory of a graph that another array may get. New
arrays and shared memory hold NaN. A stream that captures does nothing, and work that
the host need not wait for is put off for as long as a device might.

Tests get it by the fixtures ``cupy`` and, for what CuPy has not, ``emulation``::

    def test_a_step_copies_nothing(cupy, emulation):
        with emulation.transfers() as moved:
            step()
        assert moved.to_device == moved.to_host == moved.synchronizations == 0

    def test_too_little_memory(cupy, emulation):
        with emulation.memory_limit(2**20), pytest.raises(MemoryError):
            step()

Not emulated: races between blocks and for global memory, more than one kernel at a
time, times, textures, inline assembly, cooperative groups, half precision in kernels.
"""

from tests.emulated_cupy.compilation import compiler
from tests.emulated_cupy.devices import device_count, memory_limit
from tests.emulated_cupy.errors import UndefinedBehaviour
from tests.emulated_cupy.modules import install
from tests.emulated_cupy.transfers import transfers

__all__ = [
    "UndefinedBehaviour",
    "compiler",
    "device_count",
    "install",
    "memory_limit",
    "transfers",
]
