"""How small is the pruned network: five measures, because one alone misleads.

Published compression factors count different things (weights, weights with biases,
whole units, bytes with indices, bits). A :class:`NetworkSize` states them all, with
the threshold they belong to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vdcore.arrays import Array, array_namespace
from vdcore.variational.checks import (
    check_same_shape,
    floating_namespace,
    mask_namespace,
)


@dataclass(frozen=True)
class LayerSize:
    """Counts of one layer; see :func:`layer_size`."""

    name: str
    weights: int
    weights_kept: int
    others: int
    inputs: int
    inputs_kept: int
    outputs: int
    outputs_kept: int
    weight_bits: int

    @property
    def sparsity(self) -> float:
        """Fraction of weights removed."""
        return 1 - self.weights_kept / self.weights

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense float32 layer."""
        return 4 * (self.weights + self.others)

    @property
    def sparse_bytes(self) -> int:
        """Bytes as compressed sparse rows: values, column indices, row starts, biases.

        float32 values, 2-byte indices where the row length allows it (else 4), 4-byte
        row starts.
        """
        row = self.weights // self.outputs
        index_bytes = 2 if row <= 2**16 else 4
        rows = 4 * (self.outputs + 1)
        return (4 + index_bytes) * self.weights_kept + rows + 4 * self.others


@dataclass(frozen=True)
class NetworkSize:
    """The five size measures of a network at one threshold on log alpha.

    Attributes
    ----------
    layers : tuple of LayerSize
    threshold : float
        Weights with log alpha above it are removed.
    others : int
        Parameters outside the counted layers that stay (for example batch-norm
        scales), as numbers.
    """

    layers: tuple[LayerSize, ...]
    threshold: float
    others: int = 0

    @property
    def weights(self) -> int:
        """Weights of the dense network, without biases."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        """Weights left, without biases."""
        return sum(layer.weights_kept for layer in self.layers)

    @property
    def weight_ratio(self) -> float:
        """(i) ``W / W!=0``: all weights over those kept, infinite if none is."""
        return _ratio(self.weights, self.weights_kept)

    @property
    def parameter_ratio(self) -> float:
        """(ii) The same with biases and other parameters, which are never pruned."""
        others = self.others + sum(layer.others for layer in self.layers)
        return _ratio(self.weights + others, self.weights_kept + others)

    @property
    def units(self) -> int:
        """Inputs of all layers: pixels, channels and hidden units."""
        return sum(layer.inputs for layer in self.layers)

    @property
    def units_kept(self) -> int:
        """(iii) Inputs with at least one weight left."""
        return sum(layer.inputs_kept for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense float32 network."""
        return sum(layer.dense_bytes for layer in self.layers) + 4 * self.others

    @property
    def sparse_bytes(self) -> int:
        """(iv) Bytes stored as the cheaper of dense and sparse rows, indices included.

        See :attr:`LayerSize.sparse_bytes`; file headers come on top.
        """
        stored = (min(layer.sparse_bytes, layer.dense_bytes) for layer in self.layers)
        return sum(stored) + 4 * self.others

    @property
    def bits_ratio(self) -> float:
        """(v) 32-bit weights of the dense network over the bits of those kept.

        Bits per weight as the posterior variance allows (Louizos, Ullrich, Welling
        2017), one width a layer; no indices, no biases.
        """
        bits = sum(layer.weights_kept * layer.weight_bits for layer in self.layers)
        return _ratio(32 * self.weights, bits)

    def __str__(self) -> str:
        rows = [
            (
                layer.name,
                f"{layer.weights_kept} / {layer.weights}",
                f"{100 * layer.sparsity:.2f}",
                f"{layer.inputs_kept} / {layer.inputs}",
                f"{layer.outputs_kept} / {layer.outputs}",
                str(layer.weight_bits),
            )
            for layer in self.layers
        ]
        head = ("layer", "weights kept", "sparsity %", "inputs", "outputs", "bits")
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        table = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [head, *rows]
        ]
        measures = (
            ("weights", self.weights_kept, self.weights, self.weight_ratio),
            ("with biases", None, None, self.parameter_ratio),
            (
                "units",
                self.units_kept,
                self.units,
                _ratio(self.units, self.units_kept),
            ),
            (
                "bytes, indices included",
                self.sparse_bytes,
                self.dense_bytes,
                _ratio(self.dense_bytes, self.sparse_bytes),
            ),
            ("bits by variance", None, None, self.bits_ratio),
        )
        lines = [
            *table,
            f"size at log alpha threshold {self.threshold:g}:",
            *(
                f"  {name:<24} {ratio:8.1f}x"
                + ("" if kept is None else f"   {kept:,} of {total:,}")
                for name, kept, total, ratio in measures
            ),
        ]
        return "\n".join(lines)


def layer_size(
    name: str,
    keep: Array,
    theta: Array,
    log_sigma2: Array | None = None,
    others: int = 0,
    groups: int = 1,
) -> LayerSize:
    """Count what a keep mask leaves of one layer.

    Parameters
    ----------
    name : str
    keep : array of bool, shape (out_size, in_size / groups, ...)
        Trailing axes are those of a convolution's window: its inputs are channels.
    theta : array, same shape
        Posterior means; the largest kept one sets the exponent bits.
    log_sigma2 : array, same shape, optional
        Log posterior variances; they set the significand bits. Without them a kept
        weight counts its full 32 bits.
    others : int
        Biases and other parameters of the layer that stay.
    groups : int
        The g-th of so many runs of outputs has weights of the g-th run of inputs only.

    Raises
    ------
    ValueError
        If the shapes differ or have fewer than two axes, or `groups` does not divide
        the outputs.
    TypeError
        If `keep` is not of booleans, or the others not of one real floating dtype, or
        the libraries differ.
    """
    posterior = {"theta": theta}
    if log_sigma2 is not None:
        posterior["log_sigma2"] = log_sigma2
    mask_namespace("layer_size", keep)
    floating_namespace("layer_size", **posterior)
    check_same_shape("layer_size", keep=keep, **posterior)
    xp = array_namespace(keep, theta)
    shape = tuple(keep.shape)
    if len(shape) < 2:
        message = f"layer_size: `keep` must have two axes or more, got shape {shape}"
        raise ValueError(message)
    if groups < 1 or shape[0] % groups:
        message = (
            f"layer_size: `groups` must be a positive integer that divides the "
            f"{shape[0]} outputs, got {groups!r}"
        )
        raise ValueError(message)
    rows = xp.reshape(keep, (shape[0], -1))
    inputs = xp.reshape(keep, (groups, shape[0] // groups, shape[1], -1))
    kept = int(xp.count_nonzero(keep))
    bits = 32
    if log_sigma2 is not None and kept:
        zero = xp.zeros_like(theta)
        largest = float(xp.max(xp.where(keep, xp.abs(theta), zero)))
        per_weight = significand_bits(xp.exp(log_sigma2))
        total = float(xp.sum(xp.where(keep, per_weight, zero)))
        bits = 1 + exponent_bits(largest) + math.ceil(total / kept)
    return LayerSize(
        name=name,
        weights=math.prod(shape),
        weights_kept=kept,
        others=others,
        inputs=groups * shape[1],
        inputs_kept=int(xp.count_nonzero(xp.any(inputs, axis=(1, 3)))),
        outputs=shape[0],
        outputs_kept=int(xp.count_nonzero(xp.any(rows, axis=1))),
        weight_bits=bits,
    )


def significand_bits(variance: Array) -> Array:
    """Significand bits that a weight of this posterior variance can use, 0 to 23.

    The number of ``t`` in 1..23 whose unit round-off ``2^-t`` exceeds twice the
    variance (the rule of the released code of Louizos et al. 2017, which compares
    with the variance, not the standard deviation). dtype of `variance`.

    Raises
    ------
    TypeError
        If the dtype is not real floating.

    Examples
    --------
    >>> import numpy
    >>> significand_bits(numpy.asarray([1.0, 0.2, 0.01, 1e-8]))
    array([ 0.,  1.,  5., 23.])
    """
    xp = floating_namespace("significand_bits", variance=variance)
    bits = xp.zeros_like(variance)
    for t in range(1, 24):
        bits = bits + xp.astype(variance < 2.0 ** -(t + 1), variance.dtype)
    return bits


def exponent_bits(largest: float) -> int:
    """Exponent bits for weights up to `largest` in absolute value, at least 1.

    ``ceil(log2(log2(largest) + 1) + 1)`` (released code of Louizos et al. 2017), whose
    logarithms are undefined for weights of at most 1/2; those take 1 bit here.

    Examples
    --------
    >>> [exponent_bits(w) for w in (0.1, 1, 2, 3.7, 10)]
    [1, 1, 2, 3, 4]
    """
    if largest <= 1:
        return 1
    return math.ceil(math.log2(math.log2(largest) + 1) + 1)


def _ratio(total: int, kept: int) -> float:
    return total / kept if kept else math.inf
