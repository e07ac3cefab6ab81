"""``cupy.cuda.nccl`` for the emulated CuPy: what NCCL does on GPUs, by MPI on the host.

Takes the same arguments, all by position: addresses, counts, codes of types and
operations, streams.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType

import numpy

TYPES = {7: "f4", 8: "f8", 6: "f2", 0: "i1"}  # the codes are NCCL's
SUM = 0


class NcclCommunicator:
    """One process's end."""

    def __init__(self, ndev: int, comm_id: bytes, rank: int) -> None:
        from mpi4py import MPI

        self._comm = MPI.COMM_WORLD
        assert comm_id == get_unique_id()
        assert (ndev, rank) == (self._comm.size, self._comm.rank)

    def allReduce(
        self,
        sendbuf: int,
        recvbuf: int,
        count: int,
        datatype: int,
        op: int,
        stream: int,
    ) -> None:
        """Add up the arrays of all processes."""
        assert op == SUM
        parts = self._comm.allgather(_memory(sendbuf, count, datatype).copy())
        _memory(recvbuf, count, datatype)[...] = sum(parts)

    def bcast(
        self, buff: int, count: int, datatype: int, root: int, stream: int
    ) -> None:
        """Overwrite the array with that of a process."""
        values = _memory(buff, count, datatype)
        values[...] = self._comm.bcast(values.copy(), root)


def get_unique_id() -> bytes:
    """Return the name that the processes meet by."""
    return b"emulated".ljust(128)


def install(available: bool = True) -> None:
    """Let ``from cupy.cuda import nccl`` find this, in this process."""
    nccl = ModuleType("cupy.cuda.nccl")
    nccl.__dict__.update(
        available=available,
        NCCL_INT8=0,
        NCCL_FLOAT16=6,
        NCCL_FLOAT32=7,
        NCCL_FLOAT64=8,
        NCCL_SUM=SUM,
        NcclCommunicator=NcclCommunicator,
        get_unique_id=get_unique_id,
    )
    sys.modules["cupy.cuda.nccl"] = nccl
    sys.modules["cupy.cuda"].nccl = nccl  # type: ignore[attr-defined]
    sys.modules.pop("vdcore.backends.nccl_backend", None)


def _memory(address: int, count: int, datatype: int) -> numpy.ndarray:
    dtype = numpy.dtype(TYPES[datatype])
    block = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return numpy.frombuffer(block, dtype)
