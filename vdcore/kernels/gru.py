"""Gated recurrent unit (Cho et al. 2014), in the variant of torch and cuDNN.

Arrays of sequences are time-major. What belongs to the gates lies in three blocks along
the last axis, in torch's order: reset r, update z, candidate n. The reset gate acts on
the lateral part of the candidate after its matrix product (Cho's first version, and
Chainer's, let it act on the hidden state before).
"""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.sequence import blocks, outer_sum, states_before
from vdcore.kernels.table import Kernel
from vdcore.variational.special import sigmoid


@Kernel
def gru_cell_forward(z: Array, a: Array, h: Array) -> tuple[Array, Array]:
    """One step from both parts of the pre-activations of its gates.

    Parameters
    ----------
    z : array, shape (batch, 3 units)
        Part of the input.
    a : array, shape (batch, 3 units)
        Part of the hidden state.
    h : array, shape (batch, units)

    Returns
    -------
    h : array, shape (batch, units)
        ``(1 - u) n + u h`` with ``r, u = sigmoid(z + a)`` of their blocks and
        ``n = tanh(z_n + r a_n)``.
    gates : array, shape (batch, 4 units)
        r, u, n, and the lateral part a_n, which the backward pass needs.
    """
    xp = array_namespace(z, a, h)
    z_r, z_u, z_n = blocks(z, 3)
    a_r, a_u, a_n = blocks(a, 3)
    r, u = sigmoid(z_r + a_r), sigmoid(z_u + a_u)
    n = xp.tanh(z_n + r * a_n)
    return (1 - u) * n + u * h, xp.concat([r, u, n, a_n], axis=-1)


@Kernel
def gru_cell_backward(gh: Array, h: Array, gates: Array) -> tuple[Array, Array, Array]:
    """Gradients of :func:`gru_cell_forward` by `z`, `a` and, past `a`, `h`."""
    xp = array_namespace(gh, h, gates)
    r, u, n, a_n = blocks(gates, 4)
    by_n = gh * (1 - u) * (1 - n * n)
    by_u = gh * (h - n) * u * (1 - u)
    by_r = by_n * a_n * r * (1 - r)
    gz = xp.concat([by_r, by_u, by_n], axis=-1)
    return gz, xp.concat([by_r, by_u, by_n * r], axis=-1), gh * u


@Kernel
def gru_forward(z: Array, W: Array, b: Array | None, h: Array) -> tuple[Array, Array]:
    """All steps of a sequence, from the part of the gates that the inputs make.

    Parameters
    ----------
    z : array, shape (time, batch, 3 units)
        ``x W_x^T + b_x`` of every step.
    W : array, shape (3 units, units)
        Lateral weights.
    b : array, shape (3 units,), or None
        Lateral bias: the lateral part is ``h_{t-1} W^T + b``.
    h : array, shape (batch, units)
        First state.

    Returns
    -------
    hs : array, shape (time, batch, units)
    gates : array, shape (time, batch, 4 units)
        As of :func:`gru_cell_forward`.
    """
    xp = array_namespace(z, W, b, h)
    transposed = xp.matrix_transpose(W)
    steps = []
    for t in range(z.shape[0]):
        a = xp.matmul(h, transposed)
        h, gates = gru_cell_forward.generic(z[t, ...], a if b is None else a + b, h)
        steps.append((h, gates))
    hs, all_gates = (xp.stack(list(each), axis=0) for each in zip(*steps, strict=True))
    return hs, all_gates


@Kernel
def gru_backward(
    ghs: Array, W: Array, b: Array | None, h: Array, hs: Array, gates: Array
) -> tuple[Array, Array, Array | None, Array]:
    """Gradients of :func:`gru_forward`, back through all steps.

    Parameters
    ----------
    ghs : array, shape (time, batch, units)
        Gradient by `hs`, that by the last hidden state included.
    W : array, shape (3 units, units)
    b : array, shape (3 units,), or None
    h : array, shape (batch, units)
        First state.
    hs, gates
        Results of the forward pass.

    Returns
    -------
    gz : array, shape (time, batch, 3 units)
    gW : array, shape (3 units, units)
    gb : array, shape (3 units,), or None
        None where `b` is.
    gh : array, shape (batch, units)
    """
    xp = array_namespace(ghs, W, hs)
    by_h = xp.zeros_like(h)
    steps = []
    for t in reversed(range(ghs.shape[0])):
        before = hs[t - 1, ...] if t else h
        gz, ga, past = gru_cell_backward.generic(
            ghs[t, ...] + by_h, before, gates[t, ...]
        )
        by_h = past + xp.matmul(ga, W)
        steps.append((gz, ga))
    gz, ga = (xp.stack(list(each)[::-1], axis=0) for each in zip(*steps, strict=True))
    gW = outer_sum(ga, states_before(h, hs))
    return gz, gW, None if b is None else xp.sum(ga, axis=(0, 1)), by_h


@Kernel
def gru_recompute(z: Array, W: Array, b: Array | None, h: Array, hs: Array) -> Array:
    """Gates of :func:`gru_forward` again, from its hidden states, all steps at once."""
    xp = array_namespace(z, W, b, h, hs)
    before = states_before(h, hs)
    a = xp.matmul(before, xp.matrix_transpose(W))
    return gru_cell_forward.generic(z, a if b is None else a + b, before)[1]
