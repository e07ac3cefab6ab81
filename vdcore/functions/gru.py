"""Gated recurrent unit, a sequence or a step at a time."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.recurrent import ForwardPass, check_sequence, check_step

GATES = 3


@primitive
def _gru(z, W, b, h, context, recompute):
    hs, gates = kernels.gru_forward(z, W, b, h)
    if not recompute:
        context.kept = gates
    return hs


def _gru_vjp(argnums, hs, args, kwargs):
    z, W, b, h, context, recompute = args
    if not recompute:
        z = None  # the gates stand for it, and its memory is free

    def vjp(ghs: Array):
        gates = kernels.gru_recompute(z, W, b, h, hs) if recompute else context.kept
        gradients = kernels.gru_backward(ghs, W, b, h, hs, gates)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_gru, _gru_vjp)


def gru(
    z: Array, W: Array, b: Array | None, h: Array, recompute: bool = False
) -> Array:
    """Gated recurrent unit over a sequence, in the variant of torch and cuDNN.

    Each step is ``a = h_{t-1} W^T + b``, ``r, u = sigmoid(z_t + a)`` of their blocks,
    ``n = tanh(z_n + r a_n)``, ``h_t = (1 - u) n + u h_{t-1}``; blocks in torch's order:
    reset r, update u (torch calls it z), candidate n (Cho et al. 2014, whose first
    version, and Chainer's, has the reset gate before the matrix product).

    Parameters
    ----------
    z : array, shape (time, batch, 3 units)
        What the inputs add to the gates: ``x_t W_x^T + b_x``.
    W : array, shape (3 units, units)
        Lateral weights.
    b : array, shape (3 units,), or None
        Lateral bias.
    h : array, shape (batch, units)
        Hidden state before the first step.
    recompute : bool
        Keep between the passes `z` and the hidden states only, 4 numbers a step, unit
        and example, and compute the gates again in the backward pass by one matrix
        product. Otherwise `z` is free, but 5 are kept: hidden states, gates, and what
        the reset gate multiplies.

    Returns
    -------
    hs : array, shape (time, batch, units)
        Hidden states of all steps.

    Raises
    ------
    ValueError
        If the shapes do not fit or the sequence is empty.
    TypeError
        If one of them is no array of floating-point numbers, or the dtypes or
        libraries differ.
    """
    check_sequence("gru", GATES, z, W, b, h=h)
    return _gru(z, W, b, h, ForwardPass(), recompute)


@primitive
def _gru_cell(z, a, h, context):
    new_h, context.kept = kernels.gru_cell_forward(z, a, h)
    return new_h


def _gru_cell_vjp(argnums, new_h, args, kwargs):
    *_, h, context = args

    def vjp(gh: Array):
        gradients = kernels.gru_cell_backward(gh, h, context.kept)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_gru_cell, _gru_cell_vjp)


def gru_cell(z: Array, a: Array, h: Array) -> Array:
    """One step of :func:`gru`, from both parts of its pre-activations.

    Parameters
    ----------
    z, a : array, shape (batch, 3 units)
        Part of the input, and of the hidden state; blocks of r, u and n.
    h : array, shape (batch, units)

    Returns
    -------
    array, shape (batch, units)
        Hidden state after the step.

    Raises
    ------
    ValueError, TypeError
        As :func:`gru`.
    """
    check_step("gru_cell", GATES, h, "h", z=z, a=a)
    return _gru_cell(z, a, h, ForwardPass())
