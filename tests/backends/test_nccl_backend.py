"""The NCCL communicator on emulated GPUs, run by ``mpiexec -n 2`` as a script."""

from __future__ import annotations

import numpy
import pytest
from numpy.testing import assert_array_equal

from tests import emulated_cupy, emulated_nccl
from vdcore.training import create_communicator


def run_cases():
    import cupy

    comm = create_communicator("nccl")
    assert cupy.cuda.Device().id == comm.intra_rank == comm.rank
    for dtype in ("f2", "f4", "f8"):
        x = cupy.asarray(numpy.asarray([1, 2 + comm.rank], dtype=dtype))
        assert comm.allreduce(x) is x
        assert_array_equal(x.get(), [2, 5])
    for values in (numpy.asarray([0.5, 7.0]), numpy.asarray([[2**40, 1]])):
        x = cupy.asarray(values * (1 - comm.rank))
        assert_array_equal(comm.bcast(x).get(), values)
    assert_array_equal(comm.allreduce(numpy.ones(2)), [2, 2])  # by MPI
    assert_array_equal(comm.bcast(numpy.full(2, 1 + comm.rank)), [1, 1])

    text = "rank 1: the process takes GPU 1 of its machine, and sees 1; start one proc"
    with emulated_cupy.device_count(1), pytest.raises(RuntimeError, match=text):
        create_communicator("nccl")
    emulated_nccl.install(available=comm.rank == 0)
    with pytest.raises(RuntimeError, match=r'rank 1: CuPy finds no NCCL; .*use "mpi"'):
        create_communicator("nccl")
    print("passed", flush=True)


def test_two_emulated_gpus(mpiexec):
    result = mpiexec(2, __file__)
    assert result.stdout.count("passed") == 2, result.stdout + result.stderr


if __name__ == "__main__":
    emulated_cupy.install()
    emulated_nccl.install()
    with emulated_cupy.device_count(2):
        run_cases()
