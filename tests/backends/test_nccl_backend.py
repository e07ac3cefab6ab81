"""The NCCL communicator, with stand-ins for GPUs, run by ``mpiexec -n 2`` as a script.

The stand-ins take what CuPy's own take, by position: numbers for memory, count, type,
operation and stream.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy
import pytest
from numpy.testing import assert_array_equal

from vdcore.training import create_communicator

TYPES = {"FLOAT16": "f2", "FLOAT32": "f4", "FLOAT64": "f8", "INT8": "i1"}
STREAM = 77


class DeviceArray:
    """What the communicator uses of a CuPy array."""

    def __init__(self, values):
        self.values = numpy.ascontiguousarray(values)
        self.dtype = self.values.dtype
        self.size, self.nbytes = self.values.size, self.values.nbytes
        self.data = SimpleNamespace(ptr=self.values.ctypes.data)


class NcclCommunicator:
    """Does on host memory, by MPI, what NCCL does."""

    def __init__(self, ndev, comm_id, rank):
        from mpi4py import MPI

        assert comm_id == b"a name"
        assert ndev == MPI.COMM_WORLD.size
        assert rank == MPI.COMM_WORLD.rank
        self.mpi = MPI

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        assert (op, stream) == ("sum", STREAM)
        source, target = (memory(p, count, datatype) for p in (sendbuf, recvbuf))
        target[...] = sum(self.mpi.COMM_WORLD.allgather(source.copy()))

    def bcast(self, buff, count, datatype, root, stream):
        assert stream == STREAM
        values = memory(buff, count, datatype)
        values[...] = self.mpi.COMM_WORLD.bcast(values.copy(), root)


def memory(pointer, count, datatype):
    size = count * numpy.dtype(datatype).itemsize
    block = (ctypes.c_char * size).from_address(pointer)
    return numpy.frombuffer(block, datatype)


def install_stand_ins(gpus, available=True):
    """Put a module `cupy` in place; returns the numbers of the GPUs that were used."""
    used = []
    cupy = ModuleType("cupy")
    cupy.ascontiguousarray = lambda x: x
    cupy.cuda = ModuleType("cupy.cuda")
    cupy.cuda.Device = lambda index: SimpleNamespace(use=lambda: used.append(index))
    cupy.cuda.runtime = SimpleNamespace(
        getDeviceCount=lambda: gpus, CUDARuntimeError=RuntimeError
    )
    cupy.cuda.get_current_stream = lambda: SimpleNamespace(ptr=STREAM)
    cupy.cuda.nccl = SimpleNamespace(
        available=available,
        get_unique_id=lambda: b"a name",
        NcclCommunicator=NcclCommunicator,
        NCCL_SUM="sum",
        **{f"NCCL_{name}": code for name, code in TYPES.items()},
    )
    sys.modules.update({"cupy": cupy, "cupy.cuda": cupy.cuda})
    sys.modules.pop("vdcore.backends.nccl_backend", None)
    return used


def run_cases():
    used = install_stand_ins(gpus=2)
    comm = create_communicator("nccl")
    assert used == [comm.intra_rank]
    for dtype in ("f2", "f4", "f8"):
        x = DeviceArray(numpy.asarray([1, 2 + comm.rank], dtype=dtype))
        assert comm.allreduce(x) is x
        assert_array_equal(x.values, [2, 5])
    for values in ([0.5, 7.0], numpy.asarray([[2**40, 1]])):
        x = DeviceArray(numpy.asarray(values) * (1 - comm.rank))
        assert_array_equal(comm.bcast(x).values, values)
    assert_array_equal(comm.allreduce(numpy.ones(2)), [2, 2])
    assert_array_equal(comm.bcast(numpy.full(2, 1 + comm.rank)), [1, 1])

    install_stand_ins(gpus=1)
    text = "rank 1: the process takes GPU 1 of its machine, and sees 1; start one proc"
    with pytest.raises(RuntimeError, match=text):
        create_communicator("nccl")
    install_stand_ins(gpus=2, available=comm.rank == 0)
    with pytest.raises(RuntimeError, match=r'rank 1: CuPy finds no NCCL; .*use "mpi"'):
        create_communicator("nccl")
    print("passed", flush=True)


def test_stand_ins_for_two_gpus(mpiexec):
    result = mpiexec(2, __file__)
    assert result.stdout.count("passed") == 2, result.stdout + result.stderr


if __name__ == "__main__":
    run_cases()
