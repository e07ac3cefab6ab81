"""The simple recurrent network."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array
from vdcore.autodiff import defvjp_argnums, primitive
from vdcore.functions.recurrent import check_sequence


@primitive
def _tanh_rnn(z, W, h):
    return kernels.tanh_rnn_forward(z, W, h)


def _tanh_rnn_vjp(argnums, hs, args, kwargs):
    _, W, h = args

    def vjp(ghs: Array):
        gradients = kernels.tanh_rnn_backward(ghs, W, h, hs)
        return [gradients[argnum] for argnum in argnums]

    return vjp


defvjp_argnums(_tanh_rnn, _tanh_rnn_vjp)


def tanh_rnn(z: Array, W: Array, h: Array) -> Array:
    """Simple recurrent network over a sequence: ``h_t = tanh(z_t + h_{t-1} W^T)``.

    Elman 1990.

    Parameters
    ----------
    z : array, shape (time, batch, units)
        What the inputs add: ``x_t W_x^T + b``.
    W : array, shape (units, units)
        Lateral weights.
    h : array, shape (batch, units)
        Hidden state before the first step.

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
    check_sequence("tanh_rnn", 1, z, W, h=h)
    return _tanh_rnn(z, W, h)
