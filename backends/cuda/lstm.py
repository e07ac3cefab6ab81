"""Long short-term memory."""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.products import multiply
from vdcore.backends.cuda.recurrent import (
    lateral_product,
    lateral_products,
    launch,
    weight_gradient,
)


def lstm_cell_forward(
    a: cupy.ndarray, c: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.lstm_cell_forward``."""
    a, c = map(cupy.ascontiguousarray, (a, c))
    h, new_c, gates = map(cupy.empty_like, (c, c, a))
    launch("lstm_forward", c, 1, a, None, c, h, new_c, gates)
    return h, new_c, gates


def lstm_cell_backward(
    gh: cupy.ndarray,
    gc: cupy.ndarray | None,
    c: cupy.ndarray,
    new_c: cupy.ndarray,
    gates: cupy.ndarray,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.lstm_cell_backward``."""
    gh, c, new_c, gates = map(cupy.ascontiguousarray, (gh, c, new_c, gates))
    gc = None if gc is None else cupy.ascontiguousarray(gc)
    ga, past = map(cupy.empty_like, (gates, c))
    launch("lstm_backward", c, gh, None, gc, c, new_c, gates, ga, past)
    return ga, past


def lstm_forward(
    z: cupy.ndarray, W: cupy.ndarray, h: cupy.ndarray, c: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.lstm_forward``."""
    z, W, h, c = map(cupy.ascontiguousarray, (z, W, h, c))
    hs, cs = (cupy.empty((len(z), *h.shape), z.dtype) for _ in range(2))
    all_gates = cupy.empty_like(z)
    for inputs, new_h, new_c, gates in zip(z, hs, cs, all_gates, strict=True):
        lateral_product(h, W, gates)
        launch("lstm_forward", h, 1, inputs, gates, c, new_h, new_c, gates)
        h, c = new_h, new_c
    return hs, cs, all_gates


def lstm_backward(
    ghs: cupy.ndarray,
    gc: cupy.ndarray | None,
    W: cupy.ndarray,
    h: cupy.ndarray,
    c: cupy.ndarray,
    hs: cupy.ndarray,
    cs: cupy.ndarray,
    gates: cupy.ndarray,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.lstm_backward``."""
    ghs, W, h, c = map(cupy.ascontiguousarray, (ghs, W, h, c))
    hs, cs, gates = map(cupy.ascontiguousarray, (hs, cs, gates))
    by_h, by_c = None, None if gc is None else cupy.ascontiguousarray(gc)
    gh, past, gz = map(cupy.empty_like, (h, c, gates))
    for t in reversed(range(len(hs))):
        cells = (cs[t - 1] if t else c, cs[t])
        launch("lstm_backward", h, ghs[t], by_h, by_c, *cells, gates[t], gz[t], past)
        multiply(gz[t][None], W[None], gh[None])
        by_h, by_c = gh, past
    return gz, weight_gradient(gz, h, hs), gh, past


def lstm_recompute(
    z: cupy.ndarray,
    W: cupy.ndarray,
    h: cupy.ndarray,
    c: cupy.ndarray,
    hs: cupy.ndarray,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.lstm_recompute``: all steps by one launch after the products."""
    z, W, h, c, hs = map(cupy.ascontiguousarray, (z, W, h, c, hs))
    cs, gates = map(cupy.empty_like, (hs, z))
    lateral_products(h, hs, W, gates.reshape(-1, len(W)))
    launch("lstm_forward", h, len(z), z, gates, c, None, cs, gates)
    return cs, gates
