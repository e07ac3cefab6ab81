"""From weights of JAX to the sparse model for inference on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from vdcore import Sequential
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import Array, to_numpy
from vdcore.backends import sparse_backend
from vdcore.backends.jax_functions.checks import check_jax_array, check_shape
from vdcore.backends.jax_functions.posterior import (
    Posterior,
    check_posterior,
    is_posterior,
    masked,
)
from vdcore.variational.pruning import THRESHOLD
from vdcore.windows import Pair

if TYPE_CHECKING:
    from vdcore.backends.sparse_backend import SparseModel

FUNCTIONS = {
    "relu": F.relu,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "softmax": F.softmax,
    "flatten": F.flatten,
}


class Linear(NamedTuple):
    """``x W + b``: `W` of shape (in_size, out_size), a Posterior or an array."""

    W: Posterior | Array
    b: Array | None = None


class Convolution(NamedTuple):
    """A convolution of images, of the arguments that JAX's has.

    Attributes
    ----------
    W : Posterior or jax.Array
        (out_channels, in_channels / groups, height, width), or with `channels_last`
        (height, width, in_channels / groups, out_channels).
    b : jax.Array, shape (out_channels,), optional
    strides, dilation : int or pair of int
    padding : "VALID", "SAME", int, or two pairs of int
        The same on both sides of an axis.
    groups : int
    """

    W: Posterior | Array
    b: Array | None = None
    strides: int | Pair = 1
    padding: Any = "VALID"
    dilation: int | Pair = 1
    groups: int = 1


class MaxPooling(NamedTuple):
    """Largest of each window, ``"VALID"``: pixels beyond the last window are lost."""

    window: int | Pair
    strides: int | Pair | None = None  # that of the window


class AveragePooling(NamedTuple):
    """Mean of each window, ``"VALID"``."""

    window: int | Pair
    strides: int | Pair | None = None


Layer = Linear | Convolution | MaxPooling | AveragePooling | str


def to_cpu_sparse(
    layers: Sequence[Layer],
    in_shape: tuple[int, ...] | None = None,
    *,
    threshold: float = THRESHOLD,
    channels_last: bool = False,
    **options: Any,
) -> SparseModel:
    """A sparse model that answers as the pruned network does; on the CPU, for NumPy.

    Parameters
    ----------
    layers : sequence
        What the network does, in order: :class:`Linear`, :class:`Convolution`,
        :class:`MaxPooling`, :class:`AveragePooling`, and ``"relu"``, ``"tanh"``,
        ``"sigmoid"``, ``"softmax"`` (at the end) and ``"flatten"``.
    in_shape : tuple of int, optional
        Of images: the shape of one example, (channels, height, width).
    threshold : float
        A Posterior keeps the weights whose log alpha is not above it, an array all that
        are not 0.
    channels_last : bool
        Whether kernels have their channels last, as have images when they are
        flattened. The sparse model takes images with channels first all the same.
    **options
        Of :func:`vdcore.backends.sparse_backend.to_cpu_sparse`.

    Returns
    -------
    SparseModel
        Weights are float32. `save` writes it; NumPy and SciPy suffice to load and run.

    Raises
    ------
    TypeError
        If a layer is none of these, or its weights are no arrays of JAX.
    ValueError
        If shapes do not fit together, a weight is not finite, `in_shape` is needed, or
        padding differs between the sides.
    """
    chain = Sequential()
    is_image = in_shape is not None and len(in_shape) > 1
    channels = in_shape[0] if in_shape is not None and is_image else 0
    flattened = 0  # channels of the images that the next affine layer has as vectors
    for position, layer in enumerate(layers):
        where = f"layers[{position}]"
        if isinstance(layer, Linear):
            if is_image:
                message = (
                    f'to_cpu_sparse: `{where}` is affine and follows images; put "flat'
                    'ten" before it, or state the layer as a convolution'
                )
                raise ValueError(message)
            chain.append(_linear(where, layer, threshold, flattened))
            flattened = 0
        elif isinstance(layer, Convolution):
            link = _convolution(where, layer, threshold, channels_last)
            chain.append(link)
            is_image, channels = True, link.W.array.shape[0]
        elif isinstance(layer, MaxPooling | AveragePooling):
            chain.append(_pooling(layer))
        elif isinstance(layer, str) and layer in FUNCTIONS:
            if layer == "flatten" and is_image:
                is_image, flattened = False, channels if channels_last else 0
            chain.append(FUNCTIONS[layer])
        else:
            known = ", ".join(map(repr, FUNCTIONS))
            message = (
                f"to_cpu_sparse: `{where}` must be a Linear, Convolution, MaxPooling, "
                f"AveragePooling or one of {known}; got {layer!r:.60}. Other networks "
                "are built of vdcore's links, for its own to_cpu_sparse"
            )
            raise TypeError(message)
    return sparse_backend.to_cpu_sparse(chain, in_shape, **options)


def _linear(where: str, layer: Linear, threshold: float, flattened: int) -> L.Linear:
    W = _weights(f"{where}.W", layer.W, threshold)
    check_shape("to_cpu_sparse", f"{where}.W", W, "(in_size, out_size)", W.ndim == 2)
    in_size, out_size = W.shape
    if flattened:
        right = in_size % flattened == 0
        expected = f"(pixels * {flattened}, out_size)"
        check_shape("to_cpu_sparse", f"{where}.W", W, expected, right)
        pixels = W.reshape(-1, flattened, out_size)
        W = pixels.transpose(1, 0, 2).reshape(in_size, out_size)
    b = _bias(f"{where}.b", layer.b, out_size)
    return L.Linear(in_size, out_size, b is None, numpy.ascontiguousarray(W.T), b)


def _convolution(
    where: str, layer: Convolution, threshold: float, channels_last: bool
) -> L.Convolution2D:
    W = _weights(f"{where}.W", layer.W, threshold)
    axes = "(height, width, in, out)" if channels_last else "(out, in, height, width)"
    check_shape("to_cpu_sparse", f"{where}.W", W, axes, W.ndim == 4)
    if channels_last:
        W = numpy.ascontiguousarray(W.transpose(3, 2, 0, 1))
    out_channels, in_channels, *window = W.shape
    b = _bias(f"{where}.b", layer.b, out_channels)
    return L.Convolution2D(
        in_channels * layer.groups,
        out_channels,
        tuple(window),
        layer.strides,
        _padding(where, layer, window),
        b is None,
        W,
        b,
        dilate=layer.dilation,
        groups=layer.groups,
    )


def _pooling(layer: MaxPooling | AveragePooling) -> Any:
    if isinstance(layer, AveragePooling):
        return partial(F.average_pooling_2d, ksize=layer.window, stride=layer.strides)
    return partial(
        F.max_pooling_2d, ksize=layer.window, stride=layer.strides, cover_all=False
    )


def _weights(argument: str, W: Posterior | Array, threshold: float) -> numpy.ndarray:
    """In double precision, which holds whatever the weights are in."""
    if is_posterior(W):
        check_posterior("to_cpu_sparse", W, f"{argument}.")
        W = masked(W, threshold)
    check_jax_array("to_cpu_sparse", argument, W)
    return to_numpy(W).astype(numpy.float64)


def _bias(argument: str, b: Array | None, size: int) -> numpy.ndarray | None:
    if b is None:
        return None
    b = _weights(argument, b, math.inf)
    check_shape("to_cpu_sparse", argument, b, f"({size},)", b.shape == (size,))
    return b


def _padding(where: str, layer: Convolution, window: Sequence[int]) -> Pair:
    """Pixels on each side, of rows and of columns."""
    padding = layer.padding
    if isinstance(padding, str):
        name = padding.upper()
        if name == "VALID":
            return 0, 0
        dilation = numpy.broadcast_to(layer.dilation, 2)
        extra = [int(d * (n - 1)) for d, n in zip(dilation, window, strict=True)]
        ones = (numpy.asarray(layer.strides) == 1).all()
        if name == "SAME" and ones and not any(n % 2 for n in extra):
            return extra[0] // 2, extra[1] // 2
    elif isinstance(padding, int | numpy.integer):
        return int(padding), int(padding)
    elif numpy.shape(padding) == (2, 2) and all(a == b for a, b in padding):
        return padding[0][0], padding[1][0]
    message = (
        f"to_cpu_sparse: `{where}.padding` must be the same on both sides of an axis: "
        '"VALID", an int, two pairs of equal ints, or "SAME" with strides of 1 and odd '
        f"windows; got {padding!r} with strides {layer.strides!r} and a window of "
        f"{tuple(window)}"
    )
    raise ValueError(message)
