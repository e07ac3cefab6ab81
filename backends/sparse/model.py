"""A pruned network that runs on a CPU with NumPy and SciPy alone."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy

from vdcore.backends.cpu.threads import thread_count
from vdcore.backends.sparse.file import save_layers
from vdcore.backends.sparse.layer import Shape, Stage, WeightedStage, pruned
from vdcore.backends.sparse.runtime import network
from vdcore.backends.sparse.sequence import (
    check_order,
    check_stateless,
    input_shape,
    shapes,
)
from vdcore.backends.sparse.shrink import architecture, shrink
from vdcore.backends.sparse.table import weights_table


class SparseModel:
    """A trained network, for inference only.

    It answers alike in training and evaluation (``vdcore.config.train``), so layers
    may be trained on top of it; it has no parameters, and no optimizer takes it.

    Parameters
    ----------
    layers : iterable of Stage
        See :mod:`vdcore.backends.sparse.layer`.
    in_shape : tuple of int, optional
        Shape of one example, (channels, height, width) for images. Default: as many
        numbers as the first layer takes, if that is an affine one.
    batch_size : int
        The batch size to be fastest at: it decides whether a layer with many weights
        left is computed as a dense one. Any other size gives the same answers.
    threads : int, optional
        How many share the rows of a large batch. Default: ``VDCORE_NUM_THREADS``, or
        one a core.
    formats : str or sequence of str, optional
        How to compute all layers, or each: see the attribute. Default the fastest, by
        measured costs. "dense" is the smaller dense network that pruning has left.

    Attributes
    ----------
    layers : tuple of Stage
        As stored: scipy.sparse matrices or arrays, float32.
    shrunk : tuple of Stage
        What is computed: `layers` without the channels and units that do nothing, with
        CSR weights; see :func:`vdcore.backends.sparse.shrink.shrink`.
    in_shape, out_shape : tuple of int
        Of one example.
    in_size, out_size : int
        Numbers of one example.
    formats : list of str
        How each layer is computed: "compiled" (from its kept weights), "csr" (likewise,
        by SciPy) or "dense"; "" for those without weights.
    """

    def __init__(
        self,
        layers: Iterable[Stage],
        in_shape: Shape | None = None,
        *,
        batch_size: int = 16,
        threads: int | None = None,
        formats: str | Sequence[str] | None = None,
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
        check_stateless("SparseModel", self.layers)
        check_order(self.layers)
        in_shape = input_shape(self.layers) if in_shape is None else tuple(in_shape)
        if in_shape is None:
            message = (
                "SparseModel: `in_shape` must be given where the first layer takes "
                "images, got None; pass the shape of one example, such as (1, 28, 28)"
            )
            raise ValueError(message)
        self.in_shape = in_shape
        self.out_shape = shapes(self.layers, in_shape)[-1]
        self.in_size, self.out_size = map(math.prod, (in_shape, self.out_shape))
        self.shrunk = tuple(shrink(self.layers, in_shape))
        self._network, self.formats = network(
            self.shrunk, in_shape, batch_size, threads, formats
        )

    def predict(self, x: numpy.ndarray) -> numpy.ndarray:
        """Compute the outputs for a batch of examples.

        Parameters
        ----------
        x : numpy.ndarray of float32, shape (batch, *in_shape)
            Or (batch, in_size). Models that take feature vectors flatten all trailing
            axes. Inputs without weights left need not be read.

        Returns
        -------
        numpy.ndarray of float32, shape (batch, *out_shape)

        Raises
        ------
        TypeError
            If `x` is not a NumPy array of float32.
        ValueError
            If an example has another shape.
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
        y = self._network(x)
        return y if len(self.out_shape) == 1 else y.reshape(len(y), *self.out_shape)

    __call__ = predict

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a ``.npz`` file, replacing it only when all is written."""
        save_layers(path, self.layers, self.in_shape)

    def smaller(self, **options: Any) -> SparseModel:
        """The network of the channels and units that are left, as one of its own.

        Its file is smaller, and its layers' dense shapes are. ``**options`` are those
        of the class.
        """
        layers = [
            pruned(replace(layer, W=layer.W.toarray()), layer.W.toarray() != 0)
            if isinstance(layer, WeightedStage)
            else layer
            for layer in self.shrunk
        ]
        return SparseModel(layers, self.in_shape, **options)

    @property
    def nbytes(self) -> int:
        """Bytes of all stored arrays: weights, indices, row starts and biases."""
        return sum(layer.nbytes for layer in self.layers)

    def summary(self) -> str:
        """A table of the layers: how stored and computed, weights kept, bytes.

        "left" is the shape without the channels and units that do nothing. The last
        line tells the :attr:`architecture`.
        """
        rows = [
            (layer, left, form)
            for layer, left, form in zip(
                self.layers, self.shrunk, self.formats, strict=True
            )
            if isinstance(layer, WeightedStage)
        ]
        table = weights_table(rows, self.layers)
        whole, left = self.architecture
        return f"{table}\narchitecture {whole}, left {left}"

    @property
    def architecture(self) -> tuple[str, str]:
        """The network before and after pruning, such as 20-50-800-500 and 5-10-76-16.

        See :func:`vdcore.backends.sparse.shrink.architecture`.
        """
        return architecture(self.layers), architecture(self.shrunk, read=True)

    def _checked(self, x: Any) -> numpy.ndarray:
        """`x` as the network takes it, or the error that says why it cannot be."""
        if not isinstance(x, numpy.ndarray):
            _refuse_array(x)
        if (
            x.shape[1:] == self.in_shape
            and x.dtype == numpy.float32
            and x.flags.c_contiguous
            and x.flags.aligned
        ):
            return numpy.asarray(x).reshape(len(x), self.in_size)
        if x.dtype != numpy.float32:
            message = (
                f"SparseModel: `x` must be of float32, got {x.dtype}; convert it by "
                "`x.astype(numpy.float32)`, scaled as the training data was"
            )
            raise TypeError(message)
        if not self._fits(x.shape):
            shape = ", ".join(map(str, self.in_shape))
            message = (
                f"SparseModel: `x` must have shape (batch, {shape}), or hold "
                f"{self.in_size} numbers an example; got {x.shape}"
            )
            if len(self.in_shape) > 1:
                message += "; images are (channels, height, width)"
            raise ValueError(message)
        flat = numpy.asarray(x).reshape(len(x), self.in_size)
        return numpy.require(flat, requirements=["C", "A"])

    def _fits(self, shape: Shape) -> bool:
        """Whether an input of this shape holds examples."""
        if len(self.in_shape) > 1:  # other axes might be in another order
            return shape[1:] in (self.in_shape, (self.in_size,))
        return len(shape) > 1 and math.prod(shape[1:]) == self.in_size


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
