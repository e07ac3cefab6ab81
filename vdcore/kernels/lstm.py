"""Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

Arrays of sequences are time-major. What belongs to the gates lies in four blocks along
the last axis, in torch's order: input i, forget f, candidate g, output o.
"""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.sequence import blocks, outer_sum, states_before
from vdcore.kernels.table import Kernel
from vdcore.variational.special import sigmoid


@Kernel
def lstm_cell_forward(a: Array, c: Array) -> tuple[Array, Array, Array]:
    """One step from the pre-activations of its gates.

    Parameters
    ----------
    a : array, shape (batch, 4 units)
    c : array, shape (batch, units)
        Cell state.

    Returns
    -------
    h, c : array, shape (batch, units)
        ``c' = sigmoid(f) c + sigmoid(i) tanh(g)`` and ``h = sigmoid(o) tanh(c')``.
    gates : array, shape (batch, 4 units)
        The activated values.
    """
    xp = array_namespace(a, c)
    i, f, g, o = blocks(a, 4)
    i, f, g, o = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o)
    c = f * c + i * g
    return o * xp.tanh(c), c, xp.concat([i, f, g, o], axis=-1)


@Kernel
def lstm_cell_backward(
    gh: Array, gc: Array | None, c: Array, new_c: Array, gates: Array
) -> tuple[Array, Array]:
    """Gradients of :func:`lstm_cell_forward` by `a` and `c`.

    Parameters
    ----------
    gh, gc : array, shape (batch, units)
        Gradients by both results; `gc` None: 0.
    c, new_c : array, shape (batch, units)
        Cell state before and after the step.
    gates : array, shape (batch, 4 units)
    """
    xp = array_namespace(gh, c, gates)
    i, f, g, o = blocks(gates, 4)
    squashed = xp.tanh(new_c)
    by_c = gh * o * (1 - squashed * squashed)
    if gc is not None:
        by_c = by_c + gc
    ga = [
        by_c * g * i * (1 - i),
        by_c * c * f * (1 - f),
        by_c * i * (1 - g * g),
        gh * squashed * o * (1 - o),
    ]
    return xp.concat(ga, axis=-1), by_c * f


@Kernel
def lstm_forward(z: Array, W: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """All steps of a sequence, from the part of the gates that the inputs make.

    Parameters
    ----------
    z : array, shape (time, batch, 4 units)
        ``x W_x^T + b`` of every step.
    W : array, shape (4 units, units)
        Lateral weights: a step's pre-activations are ``z_t + h_{t-1} W^T``.
    h, c : array, shape (batch, units)
        First state.

    Returns
    -------
    hs, cs : array, shape (time, batch, units)
        Hidden and cell states of all steps.
    gates : array, shape (time, batch, 4 units)
        The activated values.
    """
    xp = array_namespace(z, W, h, c)
    transposed = xp.matrix_transpose(W)
    steps = []
    for t in range(z.shape[0]):
        a = z[t, ...] + xp.matmul(h, transposed)
        h, c, gates = lstm_cell_forward.generic(a, c)
        steps.append((h, c, gates))
    hs, cs, all_gates = (
        xp.stack(list(each), axis=0) for each in zip(*steps, strict=True)
    )
    return hs, cs, all_gates


@Kernel
def lstm_backward(
    ghs: Array,
    gc: Array | None,
    W: Array,
    h: Array,
    c: Array,
    hs: Array,
    cs: Array,
    gates: Array,
) -> tuple[Array, Array, Array, Array]:
    """Gradients of :func:`lstm_forward`, back through all steps.

    Parameters
    ----------
    ghs : array, shape (time, batch, units)
        Gradient by `hs`, that by the last hidden state included.
    gc : array, shape (batch, units), or None
        Gradient by the last cell state; None: 0.
    W : array, shape (4 units, units)
    h, c : array, shape (batch, units)
        First state.
    hs, cs, gates
        Results of the forward pass.

    Returns
    -------
    gz : array, shape (time, batch, 4 units)
    gW : array, shape (4 units, units)
    gh, gc : array, shape (batch, units)
    """
    xp = array_namespace(ghs, W, hs)
    by_h = xp.zeros_like(h)
    by_c = xp.zeros_like(c) if gc is None else gc
    gz = []
    for t in reversed(range(ghs.shape[0])):
        before = cs[t - 1, ...] if t else c
        ga, by_c = lstm_cell_backward.generic(
            ghs[t, ...] + by_h, by_c, before, cs[t, ...], gates[t, ...]
        )
        by_h = xp.matmul(ga, W)
        gz.append(ga)
    stacked = xp.stack(gz[::-1], axis=0)
    return stacked, outer_sum(stacked, states_before(h, hs)), by_h, by_c


@Kernel
def lstm_recompute(
    z: Array, W: Array, h: Array, c: Array, hs: Array
) -> tuple[Array, Array]:
    """Cell states and gates of :func:`lstm_forward` again, from its hidden states.

    One matrix product makes the pre-activations of all steps, as their hidden states
    are known.

    Returns
    -------
    cs, gates : array
        As of :func:`lstm_forward`.
    """
    xp = array_namespace(z, W, h, c, hs)
    a = z + xp.matmul(states_before(h, hs), xp.matrix_transpose(W))
    steps = []
    for t in range(z.shape[0]):
        _, c, gates = lstm_cell_forward.generic(a[t, ...], c)
        steps.append((c, gates))
    cs, all_gates = (xp.stack(list(each), axis=0) for each in zip(*steps, strict=True))
    return cs, all_gates
