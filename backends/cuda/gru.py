"""Gated recurrent unit.

The products with the lateral weights are written where the gates will lie: three of
the four blocks of each example.
"""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.noisy import operands
from vdcore.backends.cuda.products import multiply
from vdcore.backends.cuda.recurrent import (
    lateral_product,
    lateral_products,
    launch,
    weight_gradient,
)


def gru_cell_forward(
    z: cupy.ndarray, a: cupy.ndarray, h: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.gru_cell_forward``."""
    z, a, h = map(cupy.ascontiguousarray, (z, a, h))
    new_h, gates = cupy.empty_like(h), _gates_of(h)
    launch("gru_forward", h, z, a, 3, None, h, new_h, gates)
    return new_h, gates


def gru_cell_backward(
    gh: cupy.ndarray, h: cupy.ndarray, gates: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.gru_cell_backward``."""
    gh, h, gates = map(cupy.ascontiguousarray, (gh, h, gates))
    gz, ga = _slopes_of(h), _slopes_of(h)
    past = cupy.empty_like(h)
    launch("gru_backward", h, gh, None, h, gates, gz, ga, past)
    return gz, ga, past


def gru_forward(
    z: cupy.ndarray, W: cupy.ndarray, b: cupy.ndarray | None, h: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.gru_forward``."""
    z, W, h = map(cupy.ascontiguousarray, (z, W, h))
    b = None if b is None else cupy.ascontiguousarray(b)
    hs = cupy.empty((len(z), *h.shape), z.dtype)
    all_gates = _gates_of(hs)
    for inputs, new_h, gates in zip(z, hs, all_gates, strict=True):
        lateral_product(h, W, gates[:, : len(W)])
        launch("gru_forward", h, inputs, gates, 4, b, h, new_h, gates)
        h = new_h
    return hs, all_gates


def gru_backward(
    ghs: cupy.ndarray,
    W: cupy.ndarray,
    b: cupy.ndarray | None,
    h: cupy.ndarray,
    hs: cupy.ndarray,
    gates: cupy.ndarray,
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray | None, cupy.ndarray]:
    """As ``kernels.gru_backward``."""
    ghs, W, h, hs, gates = map(cupy.ascontiguousarray, (ghs, W, h, hs, gates))
    gz, ga = _slopes_of(hs), _slopes_of(hs)
    gh, by_h = cupy.empty_like(h), None
    for t in reversed(range(len(hs))):
        before = hs[t - 1] if t else h
        launch("gru_backward", h, ghs[t], by_h, before, gates[t], gz[t], ga[t], gh)
        multiply(ga[t][None], W[None], gh[None], accumulate=True)
        by_h = gh
    gb = None
    if b is not None:
        gb = operands(gy=ga.reshape(-1, len(W))).sums.sum(axis=0)
    return gz, weight_gradient(ga, h, hs), gb, gh


def gru_recompute(
    z: cupy.ndarray,
    W: cupy.ndarray,
    b: cupy.ndarray | None,
    h: cupy.ndarray,
    hs: cupy.ndarray,
) -> cupy.ndarray:
    """As ``kernels.gru_recompute``: all steps by one launch after the products."""
    z, W, h, hs = map(cupy.ascontiguousarray, (z, W, h, hs))
    b = None if b is None else cupy.ascontiguousarray(b)
    gates = _gates_of(hs)
    lateral_products(h, hs, W, gates.reshape(-1, gates.shape[-1])[:, : len(W)])
    launch("gru_forward", hs, z, gates, 4, b, None, None, gates)
    return gates


def _gates_of(h: cupy.ndarray) -> cupy.ndarray:
    return cupy.empty((*h.shape[:-1], 4 * h.shape[-1]), h.dtype)


def _slopes_of(h: cupy.ndarray) -> cupy.ndarray:
    return cupy.empty((*h.shape[:-1], 3 * h.shape[-1]), h.dtype)
