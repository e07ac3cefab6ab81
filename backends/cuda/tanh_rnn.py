"""The simple recurrent network."""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.module import blocks_for
from vdcore.backends.cuda.products import multiply
from vdcore.backends.cuda.recurrent import kernels, lateral_product, weight_gradient


def tanh_rnn_forward(z: cupy.ndarray, W: cupy.ndarray, h: cupy.ndarray) -> cupy.ndarray:
    """As ``kernels.tanh_rnn_forward``."""
    z, W, h = map(cupy.ascontiguousarray, (z, W, h))
    hs = cupy.empty_like(z)
    for inputs, new_h in zip(z, hs, strict=True):
        lateral_product(h, W, new_h)
        kernels.launch("tanh_forward", blocks_for(h.size), h.size, inputs, new_h)
        h = new_h
    return hs


def tanh_rnn_backward(
    ghs: cupy.ndarray, W: cupy.ndarray, h: cupy.ndarray, hs: cupy.ndarray
) -> tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.tanh_rnn_backward``."""
    ghs, W, h, hs = map(cupy.ascontiguousarray, (ghs, W, h, hs))
    gz = cupy.empty_like(hs)
    gh, by_h = cupy.empty_like(h), None
    for t in reversed(range(len(hs))):
        arguments = (h.size, ghs[t], by_h, hs[t], gz[t])
        kernels.launch("tanh_backward", blocks_for(h.size), *arguments)
        multiply(gz[t][None], W[None], gh[None])
        by_h = gh
    return gz, weight_gradient(gz, h, hs), gh
