"""What recurrent networks have in common; see recurrent.cu for their steps.

A step is one product with the lateral weights and one launch, forward and backward:
hosts are slow at starting kernels, and graphs of steps grow with their number. The
gradient by the weights is a product over all steps.
"""

from __future__ import annotations

from typing import Any

import cupy

from vdcore.backends.cuda.arguments import divisor
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.backends.cuda.products import multiply

kernels = Module("recurrent")


def launch(kernel: str, h: cupy.ndarray, *arguments: Any) -> None:
    """Start a kernel with a thread for each unit of an array, shape (..., units)."""
    units = divisor(h.shape[-1]).reshape(1)
    kernels.launch(kernel, blocks_for(h.size), units, h.size, *arguments)


def lateral_product(h: cupy.ndarray, W: cupy.ndarray, out: cupy.ndarray) -> None:
    """``h W^T`` of matrices into `out`, the rows of which may lie apart."""
    multiply(h[None], W[None].transpose(0, 2, 1), out[None])


def lateral_products(
    h: cupy.ndarray, hs: cupy.ndarray, W: cupy.ndarray, out: cupy.ndarray
) -> None:
    """Those of all steps of a sequence, from their hidden states.

    Parameters
    ----------
    h : array, shape (batch, units)
        First state.
    hs : array, shape (time, batch, units)
    W : array, shape (rows, units)
    out : array, shape (time * batch, rows)
    """
    batch = len(h)
    lateral_product(h, W, out[:batch])
    if len(hs) > 1:
        lateral_product(hs[:-1].reshape(-1, h.shape[1]), W, out[batch:])


def weight_gradient(
    ga: cupy.ndarray, h: cupy.ndarray, hs: cupy.ndarray
) -> cupy.ndarray:
    """Gradient by lateral weights.

    The first state lies apart from the others, and has a product of its own, which is
    small: a copy that joins them would be read and written as a whole.

    Parameters
    ----------
    ga : array, shape (time, batch, rows)
        Gradient by the lateral products.
    h : array, shape (batch, units)
        First state.
    hs : array, shape (time, batch, units)
    """
    slopes = ga.reshape(1, -1, ga.shape[-1]).transpose(0, 2, 1)
    batch = len(h)
    gW = multiply(slopes[..., :batch], h[None])
    if len(hs) > 1:
        states = hs[:-1].reshape(1, -1, h.shape[1])
        multiply(slopes[..., batch:], states, gW, accumulate=True)
    return gW[0]
