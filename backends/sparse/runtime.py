"""Choose how each layer of a sparse model is run, and join what runs them.

An executor is given consecutive layers, as ``shrink`` returns them, and the shape of
one example before the first, and makes a function from examples to examples: both
float32, C-contiguous, of shape (batch, prod(shape of one)), images channel by channel.
Shrunk layers have a CSR `W`, which may have no rows or no columns left, biases that
are never None, and one group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy

from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse.images import Convolution
from vdcore.backends.sparse.layer import (
    ACTIVATIONS,
    Layer,
    Shape,
    Stage,
    WeightedStage,
)
from vdcore.backends.sparse.products import (
    Network,
    are_of_vectors,
    dense_rows,
    feature_major,
)
from vdcore.backends.sparse.sequence import shapes

# How a layer with weights may be computed: from those kept, compiled or by SciPy, or
# from all of them.
FORMATS = ("compiled", "csr", "dense")

# Nanoseconds that one weight takes for so many numbers: examples, or positions of a
# window in all examples. From `benchmarks/sparse_inference.py --break-even`, two
# AVX-512 cores.
NUMBERS = (1, 16, 128, 1024)
WEIGHT_TIMES = {
    "dense": (0.06, 0.28, 1.6, 12.0),
    "compiled": (0.4, 1.0, 4.4, 20.0),
    "csr": (0.5, 3.8, 17.0, 115.0),
}
# Nanoseconds that a layer takes besides. A dense one parts a run of compiled ones.
CALL_TIMES = {"dense": 4000.0, "compiled": 0.0, "csr": 6000.0}

# Weights times examples; less work is done before a second thread has started.
PARALLEL_FROM = 6_000_000
BLOCK = 32  # examples that the compiled kernel takes at a time


def network(
    layers: Sequence[Stage],
    in_shape: Shape,
    batch_size: int,
    threads: int,
    formats: str | Sequence[str] | None = None,
) -> tuple[Network, list[str]]:
    """The function that computes shrunk layers, and how it computes each of them.

    Parameters
    ----------
    layers : sequence of Stage
        As :func:`vdcore.backends.sparse.shrink.shrink` returns them.
    in_shape : tuple of int
        Shape of one example.
    batch_size : int
        The batch size to be fastest at.
    threads : int
        How many share the rows of a large batch, where the code is compiled.
    formats : str or sequence of str, optional
        One of :data:`FORMATS` for all layers with weights, or for each layer. Default
        the one that takes least time, by the tables of this module.

    Returns
    -------
    function : callable
        From x, float32, C-contiguous, shape (batch, in_size), to (batch, out_size).
    formats : list of str
        One of :data:`FORMATS` for each layer, "" for those without weights.
    """
    _, *after = shapes(layers, in_shape)
    chosen = _formats(layers, after, batch_size, formats)
    compiled = _compiled(chosen)
    parts: list[Network] = []
    for is_compiled, group in groupby(range(len(layers)), compiled.__getitem__):
        numbers = list(group)
        members = [layers[k] for k in numbers]
        shape = [in_shape, *after][numbers[0]]
        forms = [chosen[k] for k in numbers]
        if is_compiled:
            parts.append(compiled_stages(members, shape, threads))
        elif are_of_vectors(members) and "csr" not in forms:
            parts.append(dense_rows(members))
        else:
            parts.append(feature_major(members, forms, shape))
    return (parts[0] if len(parts) == 1 else _chained(parts)), chosen


def _compiled(formats: Sequence[str]) -> list[bool]:
    """Which layers to compile: those without weights as the one before with some."""
    before = next(form for form in formats if form)
    result = []
    for form in formats:
        before = form or before
        result.append(before == "compiled")
    return result


def _formats(
    layers: Sequence[Stage],
    after: Sequence[Shape],
    batch_size: int,
    asked: str | Sequence[str] | None,
) -> list[str]:
    if asked is None:
        return [
            fastest_format(layer, batch_size * math.prod(shape[1:]))
            for layer, shape in zip(layers, after, strict=True)
        ]
    if isinstance(asked, str):
        asked = [asked if isinstance(x, WeightedStage) else "" for x in layers]
    if len(asked) != len(layers):
        message = (
            f"SparseModel: `formats` must be one of {FORMATS}, or one for each of the "
            f"{len(layers)} layers, got {len(asked)} of them"
        )
        raise ValueError(message)
    for layer, form in zip(layers, asked, strict=True):
        allowed = available_formats(layer)
        if form not in allowed:
            message = (
                f"SparseModel: `formats` of layer `{layer.name}` must be one of "
                f"{allowed} here, got {form!r}"
            )
            raise ValueError(message)
    return list(asked)


def available_formats(layer: Stage) -> tuple[str, ...]:
    """How a layer can be computed here, of :data:`FORMATS`."""
    if not isinstance(layer, WeightedStage):
        return ("",)
    return FORMATS if numba_or_none() is not None else FORMATS[1:]


def fastest_format(layer: Stage, numbers: int) -> str:
    """The format that takes least time for so many numbers an output."""
    allowed = available_formats(layer)
    # A compiled convolution with all weights left takes less time than to unfold images
    # for a dense product, or at most twice as much (many channels of few pixels).
    always = isinstance(layer, Convolution) and "compiled" in allowed
    if always or not isinstance(layer, WeightedStage):
        return allowed[0]
    nearest = int(numpy.abs(numpy.log(numbers / numpy.asarray(NUMBERS))).argmin())
    scale = max(1.0, numbers / NUMBERS[-1])

    def time(form: str) -> float:
        weights = layer.size if form == "dense" else layer.kept
        return CALL_TIMES[form] + weights * WEIGHT_TIMES[form][nearest] * scale

    return min(allowed, key=time)


def _chained(parts: list[Network]) -> Network:
    def run(x: numpy.ndarray) -> numpy.ndarray:
        for part in parts:
            x = part(x)
        return x

    return run


def compiled_stages(layers: Sequence[Stage], in_shape: Shape, threads: int) -> Network:
    """Consecutive layers by one compiled call."""
    affine = [layer for layer in layers if isinstance(layer, Layer)]
    if len(affine) == len(layers):
        return compiled_layers(affine, threads)
    from vdcore.backends.sparse.convolution import compiled_images

    return compiled_images(layers, in_shape, threads)


def compiled_layers(layers: Sequence[Layer], threads: int) -> Network:
    """Consecutive layers by one compiled call, from their kept weights."""
    from vdcore.backends.cpu.team import team
    from vdcore.backends.sparse.kernels import SIDE, run_in_parts
    from vdcore.backends.sparse.kernels import run as kernel

    first = layers[0].W
    runs, position = _runs(numpy.unique(first.indices), first.shape[1], SIDE)
    indices = numpy.concatenate(
        [position[first.indices], *(layer.W.indices for layer in layers[1:])]
    )
    rows = numpy.concatenate([numpy.diff(layer.W.indptr) for layer in layers])
    heights = [layer.W.shape[0] for layer in layers]
    activations = [ACTIVATIONS.index(layer.activation) for layer in layers]
    program = (
        numpy.column_stack([heights, activations]).astype(numpy.int64),
        numpy.concatenate([[0], numpy.cumsum(rows)]).astype(numpy.int32),
        indices.astype(numpy.uint32),
        numpy.concatenate([layer.W.data for layer in layers]),
        numpy.concatenate([layer.b for layer in layers]),
        runs,
    )
    out_size, weights = heights[-1], len(indices)
    call = kernel.compiled

    def run(x: numpy.ndarray) -> numpy.ndarray:
        batch = len(x)
        out = numpy.empty((batch, out_size), numpy.float32)
        if weights * batch < PARALLEL_FROM or threads == 1:
            call(*program, x, out, 0, batch)
        else:
            # A few parts for each thread: one that starts late leaves more to others.
            share = BLOCK * -(-batch // (4 * threads * BLOCK))
            run_in_parts(team(-(-batch // share), threads), share, *program, x, out)
        return out

    return run


def _runs(
    read: numpy.ndarray, in_size: int, side: int
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Cover the columns that are read by runs of `side` columns.

    Returns the first column of each run, and for each column its place in the runs.
    """
    runs: list[int] = []
    position = numpy.zeros(in_size, numpy.int64)
    for column in read:
        if not runs or column >= runs[-1] + side:
            runs.append(max(0, min(column, in_size - side)))
        position[column] = (len(runs) - 1) * side + column - runs[-1]
    return numpy.asarray(runs, numpy.int64), position
