"""CuPy without a GPU: its arrays are NumPy's, its kernels are compiled by g++.

What would go wrong with CuPy goes wrong here too, and some of what would go wrong
unnoticed on a device is an error (:class:`UndefinedBehaviour`).
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
