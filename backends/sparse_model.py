"""A pruned network that runs on a CPU with NumPy and SciPy alone."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy

from vdcore.backends.sparse_file import check_sequence, save_layers
from vdcore.backends.sparse_layer import Layer
from vdcore.backends.sparse_runtime import network
from vdcore.backends.threads import thread_count


class SparseModel:
    """A trained network, for inference only.

    It answers alike in training and evaluation (``vdcore.config.train``), so layers
    may be trained on top of it; it has no parameters, and no optimizer takes it.

    Parameters
    ----------
    layers : iterable of Layer
    batch_size : int
        The batch size to be fastest at: it decides whether a layer with many weights
        left is computed as a dense one. Any other size gives the same answers.
    threads : int, optional
        How many share the rows of a large batch. Default: ``VDCORE_NUM_THREADS``, or
        one a core.

    Attributes
    ----------
    layers : tuple of Layer
        As stored: scipy.sparse matrices or arrays, float32.
    in_size, out_size : int
    formats : list of str
        How each layer is computed: "compiled" (from its kept weights), "csr" (likewise,
        by SciPy) or "dense".
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        *,
        batch_size: int = 16,
        threads: int | None = None,
    ) -> None:
        threads = thread_count() if threads is None else threads
        for argument, number in (("batch_size", batch_size), ("threads", threads)):
            if not isinstance(number, int) or number < 1:
                message = (
                    f"SparseModel: `{argument}` must be a positive integer, "
                    f"got {number!r}"
                )
                raise ValueError(message)
        self.layers = tuple(layers)
        check_sequence(self.layers)
        self.in_size = self.layers[0].W.shape[1]
        self.out_size = self.layers[-1].W.shape[0]
        self._network, self.formats = network(self.layers, batch_size, threads)

    def predict(self, x: numpy.ndarray) -> numpy.ndarray:
        """Compute the outputs for a batch of examples.

        Parameters
        ----------
        x : numpy.ndarray of float32, shape (batch, ...)
            Trailing axes are flattened; they hold `in_size` numbers together. Inputs
            without weights left are not read.

        Returns
        -------
        numpy.ndarray of float32, shape (batch, out_size)

        Raises
        ------
        TypeError
            If `x` is not a NumPy array of float32.
        ValueError
            If an example does not hold `in_size` numbers.
        RuntimeError
            If `x` is traced: there are no gradients.
        """
        if (
            type(x) is not numpy.ndarray
            or x.dtype != numpy.float32
            or x.ndim != 2
            or x.shape[1] != self.in_size
            or not (x.flags.c_contiguous and x.flags.aligned)
        ):
            x = self._checked(x)
        return self._network(x)

    __call__ = predict

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.npz`` file, replacing it only when all is written."""
        save_layers(path, self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays: weights, indices, row starts and biases."""
        return sum(layer.nbytes for layer in self.layers)

    def summary(self) -> str:
        """A table of the layers: how stored and computed, weights kept, bytes."""
        rows = [
            (
                layer.name,
                "csr" if layer.is_sparse else "dense",
                form,
                "x".join(map(str, layer.W.shape)),
                *_counts(layer.kept, layer.size, layer.nbytes),
            )
            for layer, form in zip(self.layers, self.formats, strict=True)
        ]
        kept = sum(layer.kept for layer in self.layers)
        total = sum(layer.size for layer in self.layers)
        rows.append(("total", "", "", "", *_counts(kept, total, self.nbytes)))
        head = ("layer", "stored", "computed", "shape", "weights", "zeros %", "bytes")
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if k < 3 else cell.rjust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in (head, *rows)
        ]
        return "\n".join(lines)

    def _checked(self, x: Any) -> numpy.ndarray:
        """`x` as the network takes it, or the error that says why it cannot be."""
        if not isinstance(x, numpy.ndarray):
            _refuse_array(x)
        if x.dtype != numpy.float32:
            message = (
                f"SparseModel: `x` must be of float32, got {x.dtype}; convert it by "
                "`x.astype(numpy.float32)`, scaled as the training data was"
            )
            raise TypeError(message)
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.in_size:
            message = (
                f"SparseModel: `x` must have shape (batch, {self.in_size}), or hold "
                f"{self.in_size} numbers an example; got {x.shape}"
            )
            raise ValueError(message)
        flat = numpy.asarray(x).reshape(len(x), self.in_size)
        return numpy.require(flat, requirements=["C", "A"])


def _counts(kept: int, total: int, nbytes: int) -> tuple[str, str, str]:
    return f"{kept:,} / {total:,}", f"{100 * (1 - kept / total):.2f}", f"{nbytes:,}"


def _refuse_array(x: Any) -> NoReturn:
    tracer = sys.modules.get("autograd.tracer")
    if tracer is not None and tracer.isbox(x):
        message = (
            "SparseModel: `x` is traced, and a sparse model has no gradients; train "
            "the chain that it was made from"
        )
        raise RuntimeError(message)
    message = (
        f"SparseModel: `x` must be a numpy.ndarray, got {type(x).__name__}; convert it "
        "by vdcore.arrays.to_numpy, or numpy.asarray"
    )
    raise TypeError(message)
