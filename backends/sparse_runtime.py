"""Run the layers of a sparse model: compiled, or by the products of NumPy and SciPy.

An executor is given consecutive layers, as ``shrink`` returns them, and the shape of
one example before the first, and makes a function from examples to examples: both
float32, C-contiguous, of shape (batch, prod(shape of one)), images channel by channel.
Shrunk layers have a CSR `W`, which may have no rows or no columns left, biases that
are never None, and one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy

from vdcore.backends.jit import numba_or_none
from vdcore.backends.sparse_layer import ACTIVATIONS, Layer, activate
from vdcore.backends.sparse_shrink import shrink

Network = Callable[[numpy.ndarray], numpy.ndarray]  # what executors make

# Nanoseconds that one weight takes for a whole batch, and how many more a dense product
# takes than a sparse one however small they are (next to compiled layers it parts a run
# of them). From `benchmarks/sparse_inference.py --break-even`, two AVX-512 cores.
BATCH_SIZES = (1, 16, 128, 1024)
WEIGHT_TIMES = {
    "dense": (0.06, 0.28, 1.6, 12.0),
    "compiled": (0.4, 1.0, 4.4, 20.0),
    "csr": (0.5, 3.8, 17.0, 115.0),
}
DENSE_CALL = {"compiled": 4000.0, "csr": -2000.0}

# Weights times examples; less work is done before a second thread has started.
PARALLEL_FROM = 6_000_000
BLOCK = 32  # examples that the compiled kernel takes at a time


def network(
    layers: Sequence[Layer], batch_size: int, threads: int
) -> tuple[Network, list[str]]:
    """The function that computes `layers`, and how it computes each of them.

    Parameters
    ----------
    layers : sequence of Layer
    batch_size : int
        The batch size to be fastest at.
    threads : int
        How many share the rows of a large batch, where the code is compiled.

    Returns
    -------
    function : callable
        From x, float32, C-contiguous, shape (batch, in_size), to (batch, out_size).
    formats : list of str
        "compiled", "csr" or "dense" for each layer.
    """
    layers = shrink(layers)
    sparse = "csr" if numba_or_none() is None else "compiled"
    formats = [
        "dense" if dense_is_faster(layer, sparse, batch_size) else sparse
        for layer in layers
    ]
    if sparse == "csr":
        return scipy_network(layers, formats), formats
    parts: list[Network] = []
    for form, group in groupby(zip(formats, layers, strict=True), lambda pair: pair[0]):
        members = [layer for _, layer in group]
        if form == "dense":
            parts += map(dense_layer, members)
        else:
            parts.append(compiled_layers(members, threads))
    return (parts[0] if len(parts) == 1 else _chained(parts)), formats


def dense_is_faster(layer: Layer, sparse: str, batch_size: int) -> bool:
    """Whether all weights of `layer` take less time than those kept, by the format."""
    sizes = numpy.asarray(BATCH_SIZES)
    nearest = int(numpy.abs(numpy.log(batch_size / sizes)).argmin())
    dense = DENSE_CALL[sparse] + layer.size * WEIGHT_TIMES["dense"][nearest]
    return dense < layer.kept * WEIGHT_TIMES[sparse][nearest]


def _chained(parts: list[Network]) -> Network:
    def run(x: numpy.ndarray) -> numpy.ndarray:
        for part in parts:
            x = part(x)
        return x

    return run


def dense_layer(layer: Layer) -> Network:
    """One layer by a product with all its weights."""
    W = numpy.ascontiguousarray(layer.W.toarray().T)

    def run(x: numpy.ndarray) -> numpy.ndarray:
        h = x @ W
        h += layer.b
        activate(h, layer.activation, axis=1)
        return h

    return run


def scipy_network(layers: Sequence[Layer], formats: Sequence[str]) -> Network:
    """All layers by products of SciPy ("csr") and NumPy ("dense").

    Activations are feature-major, shape (features, batch), from the first product to
    the last: half the time of products that turn them round each time.
    """
    read = numpy.unique(layers[0].W.indices)
    matrices = [layers[0].W[:, read], *(layer.W for layer in layers[1:])]
    steps = [
        (W.toarray() if form == "dense" else W, layer.b[:, None], layer.activation)
        for W, form, layer in zip(matrices, formats, layers, strict=True)
    ]

    def run(x: numpy.ndarray) -> numpy.ndarray:
        h = x.T.take(read, axis=0)
        for W, b, activation in steps:
            h = W @ h
            h += b
            activate(h, activation, axis=0)
        return numpy.ascontiguousarray(h.T)

    return run


def compiled_layers(layers: Sequence[Layer], threads: int) -> Network:
    """Consecutive layers by one compiled call, from their kept weights."""
    from vdcore.backends.sparse_kernels import SIDE, run_in_parts
    from vdcore.backends.sparse_kernels import run as kernel
    from vdcore.backends.team import team

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
