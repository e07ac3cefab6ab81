"""What can be left out of the layers of a sparse model exactly.

A channel (of images) or unit (of vectors) whose weights are all pruned is a constant:
the same image, or number, for any input. Later layers make a constant of it again,
until one with weights adds what they make of it to its biases. A channel or unit that
no weight reads goes away too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy
from scipy.sparse import csr_array

from vdcore.backends.sparse.images import Convolution
from vdcore.backends.sparse.layer import Layer, Shape, Stage, WeightedStage, activate
from vdcore.backends.sparse.products import step
from vdcore.backends.sparse.sequence import shapes


def shrink(layers: Sequence[Stage], in_shape: Shape) -> list[Stage]:
    """Equivalent layers, all sparse, without the channels and units that do nothing.

    Inputs and outputs of the network stay as they are. Hidden units are put in order of
    their number of weights, so that a processor can foresee the length of the next one.

    Parameters
    ----------
    layers : sequence of Stage
    in_shape : tuple of int
        Shape of one example.

    Returns
    -------
    list of Stage
        As many; weights are CSR, biases never None, convolutions of one group. Layers
        before one that is a constant have no outputs left.
    """
    shrunk = [ungrouped(layer) for layer in layers]
    weighted = [k for k, layer in enumerate(shrunk) if isinstance(layer, WeightedStage)]
    _fold_constants(shrunk, shapes(layers, in_shape), weighted)
    _drop_unread(shrunk, weighted)
    return shrunk


def ungrouped(layer: Stage) -> Any:
    """The layer with CSR weights, none of them 0, biases, and one group."""
    if not isinstance(layer, WeightedStage):
        return layer
    W = csr_array(layer.W, copy=True)
    W.sum_duplicates()  # a file may hold some, and in any order
    W.eliminate_zeros()
    if layer.b is None:
        layer = replace(layer, b=numpy.zeros(W.shape[0], W.dtype))
    if not isinstance(layer, Convolution) or layer.groups == 1:
        return replace(layer, W=W)
    rows = numpy.repeat(numpy.arange(W.shape[0]), numpy.diff(W.indptr))
    group = rows // (W.shape[0] // layer.groups)
    shape = (W.shape[0], W.shape[1] * layer.groups)
    W = csr_array((W.data, W.indices + group * W.shape[1], W.indptr), shape=shape)
    return replace(layer, W=W, groups=1)


def _fold_constants(layers: list, sizes: list[Shape], weighted: list[int]) -> None:
    """Take out channels that are constant, of all layers but the last with weights."""
    dead = numpy.zeros(sizes[0][0], bool)  # which channels of the layer before
    constants = numpy.zeros((0, *sizes[0][1:]))  # their images, or numbers
    for k, layer in enumerate(layers):
        if not isinstance(layer, WeightedStage):
            if dead.any():
                constants = _run(layer, constants)
            continue
        W, b = layer.W, layer.b
        if dead.any():
            columns = numpy.repeat(dead, W.shape[1] // len(dead))
            if constants.any():
                b = _biases(replace(layer, W=W[:, columns]), constants)
            W = W[:, ~columns]
        dead = numpy.zeros(W.shape[0], bool)
        if k != weighted[-1]:
            dead = numpy.diff(W.indptr) == 0
        constants = _images(b[dead], sizes[k + 1][1:])
        if dead.any():
            activate(constants, layer.activation, axis=0)
        layers[k] = replace(layer, W=W[~dead], b=_collapsed(b[~dead]))


def _run(layer: Any, images: numpy.ndarray) -> numpy.ndarray:
    return step(layer, "csr", images.shape)(images[..., None])[..., 0]


def _biases(layer: Any, constants: numpy.ndarray) -> numpy.ndarray:
    """What the layer makes of channels that are constant, in double precision."""
    W, b = layer.W.astype(numpy.float64), layer.b.astype(numpy.float64)
    return _run(replace(layer, W=W, b=b, activation="identity"), constants)


def _images(b: numpy.ndarray, size: Shape) -> numpy.ndarray:
    """Biases as images of this size, or as numbers if there is none."""
    if b.ndim == 1:
        b = b.reshape(len(b), *(1 for _ in size))
    return numpy.broadcast_to(b, (len(b), *size)).astype(numpy.float64)


def _collapsed(b: numpy.ndarray) -> numpy.ndarray:
    """Biases in single precision, one a channel where all of its pixels agree."""
    b = b.astype(numpy.float32)
    if b.ndim == 1:
        return b
    corner = b[:, :1, :1]
    return corner[:, 0, 0].copy() if (b == corner).all() else b


def _drop_unread(layers: list, weighted: list[int]) -> None:
    """Take out channels that no weight reads, and put the others in order."""
    for before, after in reversed(list(pairwise(weighted))):
        first, W = layers[before], layers[after].W
        channels = first.W.shape[0]
        if not channels:
            continue
        width = W.shape[1] // channels  # weights of an output that read a channel
        read = numpy.unique(W.indices // width)
        counts = numpy.diff(first.W.indptr)[read]
        read = read[numpy.argsort(counts, kind="stable")]
        columns = (read[:, None] * width + numpy.arange(width)).ravel()
        W = W[:, columns]
        W.sort_indices()
        layers[before] = replace(first, W=first.W[read], b=first.b[read])
        layers[after] = replace(layers[after], W=W)


def architecture(layers: Sequence[Stage], *, read: bool = False) -> str:
    """Channels out of each convolution and units into each affine layer.

    The usual short form for LeNet-5 and its like: ``20-50-800-500``. With `read` only
    inputs that a weight reads count, as they must where layers are shrunk.
    """
    sizes = []
    for layer in layers:
        if isinstance(layer, Convolution):
            sizes.append(layer.W.shape[0])
        elif isinstance(layer, Layer):
            inputs = len(numpy.unique(csr_array(layer.W).indices))
            sizes.append(inputs if read else layer.W.shape[1])
    return "-".join(map(str, sizes))
