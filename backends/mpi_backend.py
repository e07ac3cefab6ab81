"""Communication between processes by MPI, through mpi4py: arrays in host memory."""

from __future__ import annotations

import functools
import sys
import time
from types import TracebackType
from typing import Any

import numpy
from mpi4py import MPI

from vdcore.arrays import Array, asarray_like, to_numpy
from vdcore.training.communicator import Communicator


class MPICommunicator(Communicator):
    """Processes joined by MPI; arrays of any library are sent from host memory.

    Parameters
    ----------
    mpi_comm : mpi4py.MPI.Comm, optional
        Default all processes.
    """

    def __init__(self, mpi_comm: Any = None) -> None:
        self.mpi_comm = MPI.COMM_WORLD if mpi_comm is None else mpi_comm
        self.rank = self.mpi_comm.rank
        self.size = self.mpi_comm.size
        machine = self.mpi_comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.intra_rank = machine.rank
        machine.Free()
        if MPI.COMM_WORLD.size > 1:
            _abort_on_uncaught_errors()

    def allgather_obj(self, obj: Any) -> list[Any]:
        """Objects of all ranks, in their order."""
        return self.mpi_comm.allgather(obj)

    def allreduce(self, x: Array) -> Array:
        """Sum over the ranks; half precision is added up in single."""
        host = numpy.ascontiguousarray(to_numpy(x))
        if host.dtype == numpy.float16:
            return asarray_like(self.allreduce(host.astype("f4")).astype("f2"), x)
        self.mpi_comm.Allreduce(MPI.IN_PLACE, host)
        return asarray_like(host, x)

    def bcast(self, x: Array, root: int = 0) -> Array:
        """The array of rank `root`."""
        host = numpy.ascontiguousarray(to_numpy(x))
        self.mpi_comm.Bcast(host.view(numpy.uint8), root)  # bytes: of any dtype
        return asarray_like(host, x)


@functools.cache
def _abort_on_uncaught_errors() -> None:
    """Let an error that ends this process end the others too, once it is printed."""
    print_error = sys.excepthook

    def hook(
        kind: type[BaseException],
        error: BaseException,
        traceback: TracebackType | None,
    ) -> None:
        rank = MPI.COMM_WORLD.rank
        print(f"rank {rank} fails, and all processes are ended:", file=sys.stderr)
        print_error(kind, error, traceback)
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(1)  # a launcher may drop what it has not passed on by then
        MPI.COMM_WORLD.Abort(1)

    sys.excepthook = hook
