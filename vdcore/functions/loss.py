"""Classification loss."""

from __future__ import annotations

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, check_array, is_on_gpu, untraced
from vdcore.autodiff import attach_gradients


def softmax_cross_entropy(x: Array, t: Array) -> Array:
    """Mean negative log-likelihood of class labels, in nats per example.

    Parameters
    ----------
    x : array, shape (batch, classes)
        Unnormalised log probabilities.
    t : array of integers, shape (batch,)
        Class indices in ``0 .. classes - 1``.

    Returns
    -------
    array, shape ()
        ``-mean(log softmax(x)[i, t[i]])``, dtype of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit, the batch is empty or a label is out of range. (On a
        GPU the loss is NaN then, for to look at labels there means to wait for it.)
    TypeError
        If `x` or `t` is no array, the scores are not floating-point numbers or the
        labels not integers.
    """
    check_labels("softmax_cross_entropy", x, t)
    value, gradient = kernels.softmax_cross_entropy(untraced(x), t)
    return attach_gradients(value, [x], [gradient])


def check_labels(operation: str, x: Array, t: Array) -> None:
    """Raise unless `t` holds one valid class index for each row of `x`."""
    check_array(operation, "x", x)
    check_array(operation, "t", t)
    x = untraced(x)
    xp = array_namespace(x, t)
    shape = tuple(x.shape)
    if len(shape) != 2 or tuple(t.shape) != shape[:1]:
        message = (
            f"{operation}: expected `x` of shape (batch, classes) and `t` of shape "
            f"(batch,), got {shape} and {tuple(t.shape)}"
        )
        raise ValueError(message)
    if not xp.isdtype(x.dtype, "real floating"):
        message = f"{operation}: `x` must hold floating-point scores, got {x.dtype}"
        raise TypeError(message)
    if not xp.isdtype(t.dtype, "integral"):
        message = f"{operation}: `t` must hold integer class indices, got {t.dtype}"
        raise TypeError(message)
    if shape[0] == 0:
        message = f"{operation}: the batch is empty, and so its mean is undefined"
        raise ValueError(message)
    if is_on_gpu(t):
        return  # to look at labels is to wait for the GPU; wrong ones make a loss NaN
    low, high = int(xp.min(t)), int(xp.max(t))
    if low < 0 or high >= shape[1]:
        message = (
            f"{operation}: `t` must lie in 0 .. {shape[1] - 1} for {shape[1]} classes, "
            f"got values from {low} to {high}"
        )
        raise ValueError(message)
