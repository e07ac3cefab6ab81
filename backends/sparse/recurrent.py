"""A pruned recurrent network that runs on a CPU with NumPy and SciPy alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from vdcore.backends.cpu.threads import thread_count
from vdcore.backends.sparse.file import save_layers
from vdcore.backends.sparse.layer import Stage
from vdcore.backends.sparse.recurrent_groups import (
    Group,
    groups_of,
    weighted,
    weights_left,
)
from vdcore.backends.sparse.recurrent_layers import (
    STATES,
    Embedding,
    Recurrent,
    is_identity,
)
from vdcore.backends.sparse.recurrent_runtime import (
    available_formats,
    sequence_network,
    state_size,
)
from vdcore.backends.sparse.recurrent_shrink import shrink_recurrent
from vdcore.backends.sparse.sequence import check_recurrent, input_shape
from vdcore.backends.sparse.table import weights_table


class SparseRecurrentModel:
    """A trained network of sequences, such as a language model, for inference only.

    It carries a state from call to call, as the recurrent links do::

        model.reset_state()
        for token in text:
            scores = model.step([token])  # (1, vocabulary)

    Parameters
    ----------
    layers : iterable of Stage
        See :mod:`vdcore.backends.sparse.recurrent_layers`.
    threads : int, optional
        How many share large products. Default: ``VDCORE_NUM_THREADS``, or one a core.
    formats : {"compiled", "csr", "dense"}, optional
        How to compute all products. Default the fastest for each with one example, by
        measured costs.

    Attributes
    ----------
    layers : tuple of Stage
        As stored: scipy.sparse matrices or arrays, float32.
    shrunk : tuple of Stage
        What is computed: `layers` without the units that do nothing.
    in_size : int
        How many integers there are, or numbers of an input.
    out_size : int
        Numbers of an output.
    formats : list of str
        How each product is computed: "compiled" (from its kept weights, or all of a
        row that has many), "csr" (by SciPy) or "dense"; two of each recurrent layer.
    """

    def __init__(
        self,
        layers: Iterable[Stage],
        *,
        threads: int | None = None,
        formats: str | None = None,
    ) -> None:
        threads = thread_count() if threads is None else threads
        if not isinstance(threads, int) or threads < 1:
            message = (
                "SparseRecurrentModel: `threads` must be a positive integer, got "
                f"{threads!r}"
            )
            raise ValueError(message)
        if formats is not None and formats not in available_formats():
            message = (
                f"SparseRecurrentModel: `formats` must be one of {available_formats()} "
                f"here, got {formats!r}"
            )
            raise ValueError(message)
        self.layers = tuple(layers)
        self.out_size = check_recurrent(self.layers)
        first: Any = self.layers[0]
        self._takes_ids = isinstance(first, Embedding)
        shape = first.W.shape[:1] if self._takes_ids else input_shape(self.layers)
        self.in_size: int = shape[0]
        shrunk, self._units = shrink_recurrent(self.layers)
        self.shrunk = tuple(shrunk)
        self._network, self.formats = sequence_network(self.shrunk, threads, formats)
        self._state: numpy.ndarray | None = None

    def reset_state(self, batch: int = 1) -> dict[str, numpy.ndarray]:
        """Begin anew, with zeros for `batch` examples. Returns :attr:`state`."""
        if not isinstance(batch, int | numpy.integer) or batch < 1:
            message = (
                "SparseRecurrentModel.reset_state: `batch` must be a positive integer, "
                f"got {batch!r}"
            )
            raise ValueError(message)
        self._state = self._zeros(int(batch))
        return self.state

    @property
    def state(self) -> dict[str, numpy.ndarray]:
        """Copies of the state, by name: ``"l1/h"``, and ``"l1/c"`` of an LSTM.

        Of shape (batch, units), float32. Units that nothing reads are left at 0, and
        hidden states are those before multipliers of the units. Empty before the first
        call. To set it, assign all arrays under the same names.
        """
        if self._state is None:
            return {}
        batch = len(self._state)
        result = {}
        for name, count, units, place in self._places():
            array = numpy.zeros((batch, count), numpy.float32)
            array[:, units] = self._state[:, place : place + len(units)]
            result[name] = array
        return result

    @state.setter
    def state(self, arrays: Mapping[str, Any]) -> None:
        places = list(self._places())
        names = sorted(name for name, *_ in places)
        if sorted(arrays) != names:
            message = (
                f"SparseRecurrentModel.state: must hold the arrays {names}, got "
                f"{sorted(arrays)}"
            )
            raise ValueError(message)
        if not places:
            return
        given = {name: numpy.asarray(array) for name, array in arrays.items()}
        batch = next(iter(given.values())).shape[:1]
        for name, count, _, _ in places:
            shape, dtype = given[name].shape, given[name].dtype
            if shape != (*batch, count) or 0 in shape or dtype.kind != "f":
                message = (
                    f"SparseRecurrentModel.state: `{name}` must be floating-point "
                    f"numbers of shape (batch, {count}), the same batch in all, got "
                    f"{dtype} of shape {shape}"
                )
                raise ValueError(message)
        state = self._zeros(*batch)
        for name, _, units, place in places:
            state[:, place : place + len(units)] = given[name][:, units]
        self._state = state

    def step(self, x: Any) -> numpy.ndarray:
        """Outputs for the next step of a batch.

        Parameters
        ----------
        x : array of integers, shape (batch,)
            Or a list of them. Without an embedding: float32, shape (batch, in_size).

        Returns
        -------
        numpy.ndarray of float32, shape (batch, out_size)

        Raises
        ------
        ValueError
            If an integer is out of range, the shape is another, or the state is that of
            another batch.
        TypeError
            If `x` does not hold integers, or float32 without an embedding.
        """
        x = self._checked("step", x, 1)
        return self._run("step", x, len(x))

    def predict(self, x: Any) -> numpy.ndarray:
        """Outputs for the next steps of a batch, all of a sequence.

        It begins with the state that the last call left, or zeros; see
        :meth:`reset_state`.

        Parameters
        ----------
        x : array of integers, shape (time, batch)
            Without an embedding: float32, shape (time, batch, in_size).

        Returns
        -------
        numpy.ndarray of float32, shape (time, batch, out_size)

        Raises
        ------
        ValueError, TypeError
            As :meth:`step`.
        """
        x = self._checked("predict", x, 2)
        time, batch = x.shape[:2]
        y = self._run("predict", x.reshape(time * batch, *x.shape[2:]), batch)
        return y.reshape(time, batch, self.out_size)

    __call__ = predict

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.npz`` file, replacing it only when all is written.

        The state is not part of it.
        """
        save_layers(path, self.layers, () if self._takes_ids else (self.in_size,))

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays: weights, indices, row starts and biases."""
        return sum(layer.nbytes for layer in self.layers)

    def summary(self) -> str:
        """A table of the matrices: how stored and computed, weights kept, bytes.

        "left" is the shape without the units that do nothing. Then the words, units and
        gates that are left, and the weights.
        """
        formats = iter(self.formats)
        rows = [
            (stored, left, "" if isinstance(stored, Embedding) else next(formats))
            for layer, shrunk in zip(self.layers, self.shrunk, strict=True)
            for stored, left in zip(weighted(layer), weighted(shrunk), strict=True)
        ]
        # Gates that are the input itself are a unit matrix, and no weights.
        table = weights_table([x for x in rows if not is_identity(x[0].W)], self.layers)
        weights = f"weights: {self.weights_left:,} of {self.weights:,}"
        ratio = f"{self.weight_ratio:.1f}x without what does nothing"
        return "\n".join([table, *map(str, self.groups), f"{weights}, {ratio}"])

    @property
    def groups(self) -> tuple[Group, ...]:
        """Words, units and gates that are left; see :class:`Group`."""
        return groups_of(self.layers, self.shrunk)

    @property
    def weights(self) -> int:
        """Number of weights before pruning, without biases."""
        return sum(layer.size for layer in self.layers)

    @property
    def weights_left(self) -> int:
        """Number of weights that are left without what does nothing."""
        return weights_left(self.layers, self.shrunk)

    @property
    def weight_ratio(self) -> float:
        """Weights before pruning over those left; infinite if none is."""
        left = self.weights_left
        return self.weights / left if left else math.inf

    def _places(self) -> Any:
        """Name, units, those left and first column of each array of the state."""
        place = 0
        recurrent = [layer for layer in self.layers if isinstance(layer, Recurrent)]
        for layer, units in zip(recurrent, self._units, strict=True):
            for name in STATES[layer.cell]:
                yield f"{layer.name}/{name}", layer.units, units, place
                place += len(units)

    def _zeros(self, batch: int) -> numpy.ndarray:
        recurrent = [layer for layer in self.shrunk if isinstance(layer, Recurrent)]
        size = sum(map(state_size, recurrent))
        return numpy.zeros((batch, size), numpy.float32)

    def _run(self, operation: str, x: numpy.ndarray, batch: int) -> numpy.ndarray:
        if self._state is None:
            self._state = self._zeros(batch)
        elif len(self._state) != batch:
            message = (
                f"SparseRecurrentModel.{operation}: `x` must be of a batch of "
                f"{len(self._state)}, as the state that the last call left, got one of "
                f"{batch}; call reset_state({batch}) to begin anew"
            )
            raise ValueError(message)
        return self._network(x, self._state)

    def _checked(self, operation: str, x: Any, axes: int) -> numpy.ndarray:
        """`x` as the network takes it, or the error that says why it cannot be."""
        x = numpy.asarray(x)
        where = f"SparseRecurrentModel.{operation}: `x`"
        kinds = "iu" if self._takes_ids else "f"
        if x.dtype.kind not in kinds or (kinds == "f" and x.dtype != numpy.float32):
            what = "integers" if self._takes_ids else "float32 numbers"
            message = f"{where} must hold {what}, got {x.dtype}; convert it first"
            raise TypeError(message)
        shape = ("time", "batch")[-axes:]
        sizes = () if self._takes_ids else (self.in_size,)
        if x.ndim != axes + len(sizes) or x.shape[axes:] != sizes or 0 in x.shape:
            expected = ", ".join(map(str, (*shape, *sizes)))
            message = f"{where} must have shape ({expected}), none 0, got {x.shape}"
            raise ValueError(message)
        if self._takes_ids:
            numbers = x.ravel().tolist()  # of one or few, faster than x.min()
            low, high = min(numbers), max(numbers)
            if low < 0 or high >= self.in_size:
                message = (
                    f"{where} must hold rows of the embedding, 0 .. "
                    f"{self.in_size - 1}, got numbers from {low} to {high}; is it of "
                    "the vocabulary that the model was trained on?"
                )
                raise ValueError(message)
            return numpy.ascontiguousarray(x, numpy.int64)
        return numpy.require(x, requirements=["C", "A"])
