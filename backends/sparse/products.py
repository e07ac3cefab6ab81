"""Layers by the products of NumPy and SciPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy

from vdcore.backends.sparse.images import Convolution, Flatten, Pooling
from vdcore.backends.sparse.layer import (
    Activation,
    Layer,
    Shape,
    Stage,
    WeightedStage,
    activate,
)
from vdcore.backends.sparse.sequence import check_order, check_stateless, shapes
from vdcore.backends.sparse.windows import Unfolding, pool

Network = Callable[[numpy.ndarray], numpy.ndarray]  # what executors make
Step = Callable[[numpy.ndarray], numpy.ndarray]  # of feature-major examples

# Numbers that the columns of a convolution may take for a block of examples.
UNFOLDED = 2_000_000


def dense_network(
    layers: Sequence[Stage], in_shape: Shape | None
) -> tuple[Network, Shape]:
    """Layers with all their weights, and the shape of one example after them."""
    check_stateless("DenseModel", layers)
    if in_shape is None:
        message = (
            "DenseModel: `in_shape` must be given for models of images, got None; pass "
            "the shape of one example, such as (1, 28, 28)"
        )
        raise ValueError(message)
    check_order(layers)
    out_shape = shapes(layers, in_shape)[-1]
    if are_of_vectors(layers):
        return dense_rows(layers), out_shape
    return feature_major(layers, ["dense"] * len(layers), in_shape), out_shape


def are_of_vectors(layers: Sequence[Stage]) -> bool:
    """Whether all layers take feature vectors, so that their examples may be rows."""
    return all(isinstance(layer, Layer | Activation) for layer in layers)


def dense_rows(layers: Sequence[Stage]) -> Network:
    """Affine layers, with all their weights, of examples as rows."""
    steps = [
        (_dense(layer).T.copy(), layer.b, layer.activation)
        if isinstance(layer, Layer)
        else (None, None, layer.activation)
        for layer in layers
    ]

    def run(x: numpy.ndarray) -> numpy.ndarray:
        h = x if steps[0][0] is not None else x.copy()
        for W, b, activation in steps:
            if W is not None:
                h = h @ W
            if b is not None:
                h += b
            activate(h, activation, axis=1)
        return h

    return run


def feature_major(
    layers: Sequence[Stage], formats: Sequence[str], in_shape: Shape
) -> Network:
    """Any layers; examples lie side by side from the first to the last.

    For affine layers that takes half the time of products that turn their results
    round each time.

    Parameters
    ----------
    layers : sequence of Stage
    formats : sequence of str
        "dense" where all weights of a layer take part in its product.
    in_shape : tuple of int
    """
    layers = list(layers)
    read = None
    first = layers[0]
    if isinstance(first, Layer) and not isinstance(first.W, numpy.ndarray):
        read = numpy.unique(first.W.indices)
        layers[0] = replace(first, W=first.W[:, read])
        in_shape = (len(read),)
    steps: list[Step] = []
    shape, largest = in_shape, math.prod(in_shape)
    for layer, form in zip(layers, formats, strict=True):
        steps.append(step(layer, form, shape))
        shape = layer.out_shape(shape)
        largest = max(largest, math.prod(shape), _unfolded(layer, shape))
    block, out_size = max(1, UNFOLDED // largest), math.prod(shape)

    def run_block(x: numpy.ndarray) -> numpy.ndarray:
        # A copy in any case: a step may overwrite what it is given.
        h = numpy.array(x.T, order="C") if read is None else x.T.take(read, axis=0)
        h = h.reshape(*in_shape, len(x))
        for each in steps:
            h = each(h)
        return h.reshape(out_size, len(x)).T

    def run(x: numpy.ndarray) -> numpy.ndarray:
        if len(x) <= block:
            return numpy.ascontiguousarray(run_block(x))
        y = numpy.empty((len(x), out_size), x.dtype)
        for start in range(0, len(x), block):
            y[start : start + block] = run_block(x[start : start + block])
        return y

    return run


def step(layer: Stage, form: str, in_shape: Shape) -> Step:
    """One layer, of arrays of shape (shape of one example, batch), of any dtype.

    The array that it is given may be overwritten.
    """
    if isinstance(layer, Layer):
        return _affine(layer, form)
    if isinstance(layer, Convolution):
        return _convolution(layer, form, in_shape)
    if isinstance(layer, Pooling):
        return lambda h: pool(h, layer)
    if isinstance(layer, Flatten):
        return lambda h: h.reshape(math.prod(h.shape[:-1]), h.shape[-1])
    return lambda h: _activated(h, layer)


def _affine(layer: Layer, form: str) -> Step:
    W = _dense(layer) if form == "dense" else layer.W
    b = None if layer.b is None else layer.b[:, None]

    def run(h: numpy.ndarray) -> numpy.ndarray:
        y = W @ h.reshape(W.shape[1], h.shape[-1])
        if b is not None:
            y += b
        return _activated(y, layer)

    return run


def _convolution(layer: Convolution, form: str, in_shape: Shape) -> Step:
    if layer.groups > 1:
        return _grouped(layer, form, in_shape)
    W = layer.W
    out_shape = layer.out_shape(in_shape)
    if isinstance(W, numpy.ndarray):
        columns = numpy.arange(W.shape[1])
    else:
        columns = numpy.unique(W.indices)
    unfolding = Unfolding(columns, layer.window, out_shape[1:])
    W = W[:, unfolding.order]
    if form == "dense" and not isinstance(W, numpy.ndarray):
        W = W.toarray()
    size = math.prod(out_shape[1:])
    b = layer.b
    if b is not None:
        b = b.reshape(len(b), 1 if b.ndim == 1 else size, 1)

    def run(h: numpy.ndarray) -> numpy.ndarray:
        y = (W @ unfolding(h)).reshape(out_shape[0], size, h.shape[-1])
        if b is not None:
            y += b
        return _activated(y, layer).reshape(*out_shape, h.shape[-1])

    return run


def _grouped(layer: Convolution, form: str, in_shape: Shape) -> Step:
    """Each group on its own."""
    outputs, inputs = layer.W.shape[0] // layer.groups, in_shape[0] // layer.groups
    parts = []
    for group in range(layer.groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        channels = slice(group * inputs, (group + 1) * inputs)
        b = None if layer.b is None else layer.b[rows]
        part = replace(layer, W=layer.W[rows], b=b, groups=1)
        parts.append((channels, _convolution(part, form, (inputs, *in_shape[1:]))))
    return lambda h: numpy.concatenate([part(h[channels]) for channels, part in parts])


def _activated(h: numpy.ndarray, layer: Stage) -> numpy.ndarray:
    activate(h, layer.activation, axis=0)
    return h


def _dense(layer: WeightedStage) -> Any:
    return layer.W.toarray() if layer.is_sparse else layer.W


def _unfolded(layer: Stage, out_shape: Shape) -> int:
    """Numbers of an example that a convolution gathers, at most."""
    if not isinstance(layer, Convolution):
        return 0
    return layer.W.shape[1] * layer.groups * math.prod(out_shape[1:])
