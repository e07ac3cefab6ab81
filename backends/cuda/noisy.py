"""What stands before and after the products of noisy layers; see noisy.cu."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import cupy
import numpy

from vdcore.backends.cuda.arguments import DIVISOR, divisor, structure
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.backends.cuda.tiles import tiles_of

_LAYOUT = numpy.dtype(
    [("row", DIVISOR), ("elements", DIVISOR), ("channels", numpy.uint32)], align=True
)
_kernels = Module("noisy")


class Weights(NamedTuple):
    """Weights of a layer, of shape (outputs, channels, *window); float32, contiguous.

    Attributes
    ----------
    theta : array
    log_sigma2 : array, or None
        None for a layer that is not noisy.
    threshold : float or None
    """

    theta: cupy.ndarray
    log_sigma2: cupy.ndarray | None = None
    threshold: float | None = None

    @property
    def powers(self) -> int:
        """How many products there are: with means, and with variances."""
        return 1 if self.log_sigma2 is None else 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Of their operands: (outputs, *window, channels)."""
        outputs, channels, *window = self.theta.shape
        return (outputs, *window, channels)

    def arguments(self) -> tuple[Any, ...]:
        """For kernels: arrays, size, layout and threshold."""
        channels, *window = self.theta.shape[1:]
        limit = math.inf if self.threshold is None else float(self.threshold)
        layout = _layout(channels, math.prod(window))
        return self.theta, self.log_sigma2, self.theta.size, layout, limit

    def as_they_are(self) -> cupy.ndarray | None:
        """The operands, if the parameters can be read as such."""
        if self.log_sigma2 is None and math.prod(self.theta.shape[2:]) == 1:
            return self.theta.reshape(1, *self.shape)
        return None


@functools.lru_cache(maxsize=1024)
def _layout(channels: int, elements: int) -> numpy.ndarray:
    fields = (divisor(channels * elements), divisor(elements), channels)
    return structure(_LAYOUT, fields)


NO_WEIGHTS = (None, None, 0, _layout(1, 1), math.inf)


class Operands(NamedTuple):
    """What :func:`operands` writes, each None if it was not asked for.

    Attributes
    ----------
    inputs : array, shape (2, *inputs)
        The inputs, and their squares.
    weights : array, shape (1 or 2, outputs, *window, channels)
        Means, and variances; 0 where masked.
    slopes : array, shape (1 or 2, rows, outputs)
        Gradients by the products.
    sums : array, shape (bands, outputs)
        Sums of the first of these, of bands of rows.
    """

    inputs: cupy.ndarray | None
    weights: cupy.ndarray | None
    slopes: cupy.ndarray | None
    sums: cupy.ndarray | None


def operands(
    inputs: cupy.ndarray | None = None,
    weights: Weights | None = None,
    gy: cupy.ndarray | None = None,
    residual: cupy.ndarray | None = None,
) -> Operands:
    """Write operands of the products of a layer, all by one launch.

    Parameters
    ----------
    inputs : array, optional
    weights : Weights, optional
    gy : array, shape (rows, outputs), optional
        The output's gradient.
    residual : array, shape of `gy`, optional
        Of the forward pass of a noisy layer.
    """
    results: list[Any] = [None] * 4
    input_arguments: tuple[Any, ...] = (None, 0, None)
    if inputs is not None:
        results[0] = cupy.empty((2, *inputs.shape), inputs.dtype)
        input_arguments = (inputs, inputs.size, results[0])
    weight_arguments: tuple[Any, ...] = (*NO_WEIGHTS, None)
    if weights is not None:
        results[1] = weights.as_they_are()
        if results[1] is None:
            shape = (weights.powers, *weights.shape)
            results[1] = cupy.empty(shape, weights.theta.dtype)
            weight_arguments = (*weights.arguments(), results[1])
    blocks, slope_arguments = 0, (None, None, 0, 0, 0, 0, None, None)
    if gy is not None:
        tiles = tiles_of(*gy.shape)
        blocks = tiles.blocks
        results[2], written = gy[None], None
        if residual is not None:
            results[2] = written = cupy.empty((2, *gy.shape), gy.dtype)
        results[3] = cupy.empty((tiles.bands, tiles.columns), gy.dtype)
        slope_arguments = (gy, residual, *tiles[:3], blocks, written, results[3])
    elements = (weight_arguments[2], input_arguments[1])
    blocks += blocks_for(sum(-(-size // 4) for size in elements))
    if blocks:
        arguments = (*slope_arguments, *weight_arguments, *input_arguments)
        _kernels.launch("operands", blocks, *arguments)
    return Operands(*results)


def outputs(
    products: cupy.ndarray, noise: cupy.ndarray | None, b: cupy.ndarray | None
) -> cupy.ndarray:
    """Noise and bias on products; `noise` becomes the residual.

    Parameters
    ----------
    products : array, shape (1 or 2, ..., outputs)
        A single one is overwritten.
    noise : array, shape (..., outputs), or None
    b : array, shape (outputs,), or None
    """
    y = products[0]
    if noise is None and b is None:
        return y
    if noise is not None:
        y = cupy.empty_like(noise)
    arguments = (products, noise, b, divisor(y.shape[-1]).reshape(1))
    blocks = blocks_for(-(-y.size // 4))
    _kernels.launch("outputs", blocks, *arguments, y.size, y)
    return y


def gradients(
    sums: cupy.ndarray,
    products: cupy.ndarray,
    weights: Weights,
    inputs: cupy.ndarray | None = None,
    input_products: cupy.ndarray | None = None,
) -> tuple[Any, ...]:
    """Gradients by inputs, weights and bias from their products, all by one launch.

    Parameters
    ----------
    sums : array, shape (bands, outputs)
        Of :func:`operands`.
    products : array, shape (1 or 2, splits, outputs, *window, channels)
        By weights: the parts that those are sums of.
    weights : Weights
    inputs : array, optional
    input_products : array, shape (2, *inputs), optional

    Returns
    -------
    gx : array, shape of `inputs`, or None
    gtheta, glog_sigma2 : array, shape of ``weights.theta``
        The second None for a layer that is not noisy.
    gb : array, shape (outputs,)
    """
    bands, columns = sums.shape
    gb = cupy.empty(columns, sums.dtype)
    by_weights: list[Any] = [
        None if array is None else cupy.empty_like(weights.theta)
        for array in (weights.theta, weights.log_sigma2)
    ]
    gx, size = None, 0
    if inputs is not None:
        gx, size = cupy.empty_like(inputs), inputs.size
    blocks = tiles_of(bands, columns).across
    blocks += blocks_for(-(-weights.theta.size // 4) + -(-size // 4))
    _kernels.launch(
        "gradients", blocks, sums, bands, columns, gb, products, products.shape[1],
        *weights.arguments(), *by_weights, input_products, inputs, size, gx,
    )  # fmt: skip
    return gx, *by_weights, gb
