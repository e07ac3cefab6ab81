"""Long short-term memory, a sequence or a step at a time."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.recurrent import (
    ForwardPass,
    check_sequence,
    check_step,
    last_cell,
)

GATES = 4


@primitive
def _lstm(z, W, h, c, context, recompute):
    hs, cs, gates = kernels.lstm_forward(z, W, h, c)
    context.c = cs[-1, ...]
    if recompute:
        context.c = context.c + 0  # a copy, or it would keep all of them
    else:
        context.kept = cs, gates
    return hs


def _lstm_vjp(argnums, hs, args, kwargs):
    z, W, h, c, context, recompute = args
    if not recompute:
        z = None  # the gates stand for it, and its memory is free

    def vjp(ghs: Array):
        kept = context.kept or kernels.lstm_recompute(z, W, h, c, hs)
        gradients = kernels.lstm_backward(ghs, context.gc, W, h, c, hs, *kept)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_lstm, _lstm_vjp)


def lstm(
    z: Array, W: Array, h: Array, c: Array, recompute: bool = False
) -> tuple[Array, Array]:
    """Long short-term memory over a sequence.

    Each step is ``a = z_t + h_{t-1} W^T``, ``c_t = sigmoid(f) c_{t-1} + sigmoid(i)
    tanh(g)``, ``h_t = sigmoid(o) tanh(c_t)``, where i, f, g and o are the four blocks
    of `a`, in torch's order (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    Parameters
    ----------
    z : array, shape (time, batch, 4 units)
        What the inputs add to the gates: ``x_t W_x^T + b``.
    W : array, shape (4 units, units)
        Lateral weights.
    h, c : array, shape (batch, units)
        Hidden and cell state before the first step.
    recompute : bool
        Keep between the passes `z` and the hidden states only, 5 numbers a step, unit
        and example, and compute gates and cell states again in the backward pass by one
        matrix product. Otherwise 6 are kept, hidden states, cell states and gates, and
        the memory of `z` is free unless something else holds it: where it does, this
        saves 5 of 10.

    Returns
    -------
    hs : array, shape (time, batch, units)
        Hidden states of all steps.
    c : array, shape (batch, units)
        Cell state after the last step.

    Raises
    ------
    ValueError
        If the shapes do not fit or the sequence is empty.
    TypeError
        If one of them is no array of floating-point numbers, or the dtypes or
        libraries differ.

    Notes
    -----
    The forward pass of Chainer's LSTM has the gates interleaved, unit by unit a (our
    g), i, f, o. Its weights, shape (4 units, size), become ours by
    ``W.reshape(units, 4, -1)[:, [1, 2, 0, 3]].swapaxes(0, 1).reshape(W.shape)``.
    """
    check_sequence("lstm", GATES, z, W, h=h, c=c)
    context = ForwardPass()
    hs = _lstm(z, W, h, c, context, recompute)
    return hs, last_cell(hs, context)


@primitive
def _lstm_cell(a, c, context):
    h, context.c, context.kept = kernels.lstm_cell_forward(a, c)
    return h


def _lstm_cell_vjp(argnums, h, args, kwargs):
    _, c, context = args

    def vjp(gh: Array):
        gradients = kernels.lstm_cell_backward(
            gh, context.gc, c, context.c, context.kept
        )
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_lstm_cell, _lstm_cell_vjp)


def lstm_cell(a: Array, c: Array) -> tuple[Array, Array]:
    """One step of :func:`lstm`, from the pre-activations of its gates.

    Parameters
    ----------
    a : array, shape (batch, 4 units)
        Blocks of i, f, g and o.
    c : array, shape (batch, units)
        Cell state.

    Returns
    -------
    h, c : array, shape (batch, units)
        Hidden and cell state after the step.

    Raises
    ------
    ValueError, TypeError
        As :func:`lstm`.
    """
    check_step("lstm_cell", GATES, c, "c", a=a)
    context = ForwardPass()
    h = _lstm_cell(a, c, context)
    return h, last_cell(h, context)
