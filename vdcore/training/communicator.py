"""Processes that train one model together, and what they tell each other."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from vdcore.arrays import Array, array_namespace, is_array, is_on_gpu, using_device
from vdcore.link import Link
from vdcore.training.statistics import floating_persistents

# What create_communicator is asked for, and where it is.
COMMUNICATORS = {
    "mpi": ("mpi_backend", "MPICommunicator"),
    "nccl": ("nccl_backend", "NCCLCommunicator"),
}


class Communicator(ABC):
    """A group of processes that run the same script, each on its own data.

    Every method is a meeting: it returns once all processes have called it, so all
    must call the same methods in the same order.

    Attributes
    ----------
    rank : int
        Number of this process, from 0 on.
    size : int
        How many there are.
    intra_rank : int
        Number of this process among those of its machine: which GPU it takes.
    """

    rank: int
    size: int
    intra_rank: int

    @abstractmethod
    def allgather_obj(self, obj: Any) -> list[Any]:
        """Objects of all ranks, in their order: small ones, that can be pickled."""

    @abstractmethod
    def allreduce(self, x: Array) -> Array:
        """Sum over the ranks of arrays of one shape and dtype; may overwrite `x`.

        All ranks get the same bits.
        """

    @abstractmethod
    def bcast(self, x: Array, root: int = 0) -> Array:
        """The array of rank `root`, of the shape and dtype of `x`; may overwrite it."""

    def bcast_obj(self, obj: Any, root: int = 0) -> Any:
        """Return the object of rank `root`."""
        return self.allgather_obj(obj)[root]

    def allreduce_mean(
        self, arrays: Sequence[Array], weight: float | None = None
    ) -> list[Array]:
        """Average over the ranks, in one flat buffer a dtype.

        Parameters
        ----------
        arrays : sequence of array
            Of one library and device; the same shapes and dtypes on all ranks.
        weight : float, optional
            Of this rank; those of all ranks add up to 1. Default: all the same.

        Returns
        -------
        list of array
            Shapes and dtypes of `arrays`, the same bits on all ranks.
        """
        means = list(arrays)
        if self.size == 1:
            return means
        for indices in _by_dtype(arrays):
            group = [arrays[i] for i in indices]
            with _on_device_of(group):
                flat = _flat(group)
                flat *= 1 / self.size if weight is None else weight
                parts = _cut(self.allreduce(flat), group)
            for i, part in zip(indices, parts, strict=True):
                means[i] = part
        return means

    def allreduce_grad(self, model: Link, weight: float | None = None) -> None:
        """Put the average over the ranks in the place of each gradient of a model.

        For update procedures of one's own; :class:`vdcore.training.ParallelUpdater`
        does it. Gradients of parameters that are not trained stay as they are.

        Parameters
        ----------
        model : Link
        weight : float, optional
            As of :meth:`allreduce_mean`.
        """
        parameters = trained_parameters(model)
        means = self.allreduce_mean([p.grad for p in parameters], weight)
        for parameter, mean in zip(parameters, means, strict=True):
            parameter.grad = mean

    def bcast_data(self, model: Link) -> None:
        """Give all ranks the parameters and persistent arrays of rank 0.

        Raises
        ------
        ValueError
            On all ranks, if their models differ in a name, shape or dtype.
        RuntimeError
            If the shape of a parameter is not known yet.
        """
        named = {path: parameter.array for path, parameter in model.namedparams()}
        named |= {
            path: value for path, value in model.namedpersistents() if is_array(value)
        }
        self._check_same({path: _kind(path, array) for path, array in named.items()})
        arrays = list(named.values())
        for indices in _by_dtype(arrays) if self.size > 1 else ():
            group = [arrays[i] for i in indices]
            with _on_device_of(group):
                _put(self.bcast(_flat(group)), group)

    def allreduce_persistent(self, model: Link) -> None:
        """Average the persistent floating arrays of a model, such as statistics.

        :class:`vdcore.training.extensions.Evaluator` and snapshots do it. Running
        averages may be averaged at any time and any number of times: they come out as
        if it were done in each iteration. Values that are the same on all ranks stay
        as they are, to the bit.

        Parameters
        ----------
        model : Link
        """
        arrays = floating_persistents(model)
        for indices in _by_dtype(arrays) if self.size > 1 else ():
            group = [arrays[i] for i in indices]
            with _on_device_of(group):
                flat = _flat(group)
                first = self.bcast(flat + 0)
                (change,) = self.allreduce_mean([flat - first])
                _put(first + change, group)

    def _check_same(self, kinds: dict[str, str]) -> None:
        first, *others = self.allgather_obj(kinds)
        for rank, other in enumerate(others, start=1):
            for path in {**first, **other}:
                here, there = first.get(path, "missing"), other.get(path, "missing")
                if here != there:
                    message = (
                        "bcast_data: all ranks must build the same model; array "
                        f"{path!r} is {here} on rank 0 and {there} on rank {rank}. "
                        "Give the model the same arguments on all ranks"
                    )
                    raise ValueError(message)


def create_communicator(
    communicator_name: str = "mpi", mpi_comm: Any = None
) -> Communicator:
    """Join the processes that ``mpiexec`` has started.

    Parameters
    ----------
    communicator_name : {"mpi", "nccl"}
        "mpi": arrays are sent from host memory, and copied there from a GPU. "nccl":
        arrays of CuPy stay on the GPUs, of which each process takes its own; MPI starts
        it and sends the rest.
    mpi_comm : mpi4py.MPI.Comm, optional
        Default all processes.

    Returns
    -------
    Communicator
        Of size 1 in a process that was started without ``mpiexec``.

    Raises
    ------
    ValueError
        If there is no communicator of that name.
    RuntimeError
        If mpi4py, MPI, CuPy or NCCL is missing.

    Notes
    -----
    From then on an error that no one catches ends all processes, not only its own, for
    the others would wait for it forever.
    """
    if communicator_name not in COMMUNICATORS:
        message = (
            "create_communicator: `communicator_name` must be one of "
            f"{', '.join(map(repr, COMMUNICATORS))}; got {communicator_name!r}"
        )
        raise ValueError(message)
    module, name = COMMUNICATORS[communicator_name]
    try:
        backend = importlib.import_module(f"vdcore.backends.{module}")
    except (ImportError, RuntimeError) as error:  # mpi4py finds no MPI: RuntimeError
        needs, extras = "mpi4py and an MPI", "parallel"
        if communicator_name == "nccl":
            needs, extras = f"{needs}, CuPy and NCCL", f"{extras},cuda13"
        message = (
            f"create_communicator: {communicator_name!r} needs {needs}: {error}. Run "
            f'`pip install "vdcore[{extras}]"`, and, on a machine that has no MPI, '
            "`pip install mpich`"
        )
        raise RuntimeError(message) from error
    return getattr(backend, name)(mpi_comm)


def trained_parameters(model: Link) -> list[Any]:
    """Parameters of a model that an optimizer is going to change."""
    return [p for p in model.params() if p.trainable and p.grad is not None]


def _kind(path: str, array: Any) -> str:
    if array is None:
        message = (
            f"bcast_data: the shape of parameter {path!r} is not known yet; call the "
            "model on one batch first"
        )
        raise RuntimeError(message)
    return f"{str(array.dtype).rpartition('.')[2]} of shape {tuple(array.shape)}"


def _by_dtype(arrays: Sequence[Array]) -> list[list[int]]:
    """Positions of the arrays of each dtype, in the same order on all ranks."""
    groups: dict[str, list[int]] = {}
    for position, array in enumerate(arrays):
        groups.setdefault(str(array.dtype), []).append(position)
    return list(groups.values())


def _on_device_of(arrays: Sequence[Array]) -> AbstractContextManager[Any]:
    """Let CuPy work on the GPU that arrays are on, if they are on one."""
    return using_device(arrays[0].device.id if is_on_gpu(arrays[0]) else None)


def _flat(arrays: Sequence[Array]) -> Array:
    """All values in one new array, shape (n,)."""
    xp = array_namespace(*arrays)
    return xp.concat([xp.reshape(array, (-1,)) for array in arrays])


def _cut(flat: Array, arrays: Sequence[Array]) -> list[Array]:
    """Undo :func:`_flat`: parts of `flat` in the shapes of `arrays`."""
    xp = array_namespace(flat)
    parts, start = [], 0
    for array in arrays:
        shape = tuple(array.shape)
        end = start + math.prod(shape)
        parts.append(xp.reshape(flat[start:end], shape))
        start = end
    return parts


def _put(flat: Array, arrays: Sequence[Array]) -> None:
    """Overwrite arrays, where they are, with the parts of `flat`."""
    for array, part in zip(arrays, _cut(flat, arrays), strict=True):
        array[...] = part
