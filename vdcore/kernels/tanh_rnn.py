"""The simple recurrent network (Elman 1990); arrays of sequences are time-major."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.sequence import outer_sum, states_before
from vdcore.kernels.table import Kernel


@Kernel
def tanh_rnn_forward(z: Array, W: Array, h: Array) -> Array:
    """All steps ``h_t = tanh(z_t + h_{t-1} W^T)`` of a sequence.

    Parameters
    ----------
    z : array, shape (time, batch, units)
        ``x W_x^T + b`` of every step.
    W : array, shape (units, units)
        Lateral weights.
    h : array, shape (batch, units)
        First state.

    Returns
    -------
    hs : array, shape (time, batch, units)
    """
    xp = array_namespace(z, W, h)
    transposed = xp.matrix_transpose(W)
    hs = []
    for t in range(z.shape[0]):
        h = xp.tanh(z[t, ...] + xp.matmul(h, transposed))
        hs.append(h)
    return xp.stack(hs, axis=0)


@Kernel
def tanh_rnn_backward(
    ghs: Array, W: Array, h: Array, hs: Array
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`tanh_rnn_forward` by `z`, `W` and `h`.

    Parameters
    ----------
    ghs : array, shape (time, batch, units)
        Gradient by `hs`, that by the last hidden state included.
    W : array, shape (units, units)
    h : array, shape (batch, units)
        First state.
    hs : array, shape (time, batch, units)
        Result of the forward pass.
    """
    xp = array_namespace(ghs, W, hs)
    slopes = 1 - hs * hs
    by_h = xp.zeros_like(h)
    gz = []
    for t in reversed(range(ghs.shape[0])):
        ga = (ghs[t, ...] + by_h) * slopes[t, ...]
        by_h = xp.matmul(ga, W)
        gz.append(ga)
    stacked = xp.stack(gz[::-1], axis=0)
    return stacked, outer_sum(stacked, states_before(h, hs)), by_h
