"""Communication between GPUs by NCCL, through CuPy; MPI starts it."""

from __future__ import annotations

from typing import Any

import cupy
import numpy
from cupy.cuda import nccl

from vdcore.arrays import Array
from vdcore.backends.mpi_backend import MPICommunicator


class NCCLCommunicator(MPICommunicator):
    """Processes with a GPU each; arrays of CuPy are sent from GPU to GPU.

    The process takes GPU `intra_rank` of those it sees, and makes it the current one.
    Objects and arrays of NumPy go through MPI.

    Parameters
    ----------
    mpi_comm : mpi4py.MPI.Comm, optional
        Default all processes.

    Raises
    ------
    RuntimeError
        If CuPy finds no NCCL on some rank, or a machine has fewer GPUs than processes.
    """

    def __init__(self, mpi_comm: Any = None) -> None:
        super().__init__(mpi_comm)
        self._check_gpus()
        cupy.cuda.Device(self.intra_rank).use()
        name = self.bcast_obj(nccl.get_unique_id() if self.rank == 0 else None)
        self._nccl = nccl.NcclCommunicator(self.size, name, self.rank)

    def allreduce(self, x: Array) -> Array:
        """Sum over the ranks, in place; on the current stream, without waiting."""
        if isinstance(x, numpy.ndarray):
            return super().allreduce(x)
        x = cupy.ascontiguousarray(x)
        dtype = getattr(nccl, f"NCCL_{x.dtype.name.upper()}")  # such as NCCL_FLOAT32
        self._nccl.allReduce(
            x.data.ptr, x.data.ptr, x.size, dtype, nccl.NCCL_SUM, _stream()
        )
        return x

    def bcast(self, x: Array, root: int = 0) -> Array:
        """The array of rank `root`, in place; on the current stream."""
        if isinstance(x, numpy.ndarray):
            return super().bcast(x, root)
        x = cupy.ascontiguousarray(x)
        self._nccl.bcast(x.data.ptr, x.nbytes, nccl.NCCL_INT8, root, _stream())
        return x

    def _check_gpus(self) -> None:
        found = self.allgather_obj((nccl.available, self.intra_rank, _count_gpus()))
        for rank, (available, wanted, gpus) in enumerate(found):
            if not available:
                problem = "CuPy finds no NCCL; install the one that its warning names"
            elif wanted >= gpus:
                problem = (
                    f"the process takes GPU {wanted} of its machine, and sees {gpus}; "
                    "start one process a GPU, and let each see all of them"
                )
            else:
                continue
            message = (
                f'create_communicator: rank {rank}: {problem}, or use "mpi", which '
                "sends arrays through host memory"
            )
            raise RuntimeError(message)


def _count_gpus() -> int:
    try:
        return cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:  # no driver
        return 0


def _stream() -> int:
    return cupy.cuda.get_current_stream().ptr
