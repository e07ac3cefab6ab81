"""Updates of parameters."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def adam(
    parameters: list[Array],
    gradients: list[Array],
    ms: list[Array],
    vs: list[Array],
    step: float | Array,
    beta1: float,
    beta2: float,
    eps: float,
    finite: Array | None = None,
) -> tuple[list[Array], list[Array], list[Array]]:
    """One Adam update of many parameters; returns the new ones and their moments.

    ``parameter - step * m / (sqrt(v) + eps)`` with the bias-corrected `step`. A backend
    may write the results into the memory of `parameters`, `ms` and `vs`.

    Parameters
    ----------
    parameters, gradients, ms, vs : list of array
        Those of one position have one shape and dtype.
    step : float or array, shape ()
    beta1, beta2, eps : float
    finite : array of int32, shape (), optional
        Where it is 0, nothing changes.
    """
    updated: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    for arrays in zip(parameters, gradients, ms, vs, strict=True):
        parameter, gradient, m, v = arrays
        xp = array_namespace(parameter, gradient)
        first = m * beta1 + gradient * (1 - beta1)
        second = v * beta2 + gradient * gradient * (1 - beta2)
        moved = parameter - first / (xp.sqrt(second) + eps) * step
        new = (moved, first, second)
        if finite is not None:
            old = (parameter, m, v)
            new = tuple(map(lambda a, b: xp.where(finite != 0, a, b), new, old))
        for results, array in zip(updated, new, strict=True):
            results.append(array)
    return updated


@Kernel
def watch_loss(loss: Array, finite: Array, updates: Array) -> tuple[Array, Array]:
    """Note, without waiting for a GPU, whether all losses so far have been finite.

    Parameters
    ----------
    loss : array, shape ()
    finite : array of int32, shape ()
        1 as long as they have been.
    updates : array of int32, shape ()
        How many were.

    Returns
    -------
    finite, updates : array of int32, shape ()
        With this loss. A backend may write them into the memory of the old ones.
    """
    xp = array_namespace(loss)
    finite = finite * xp.astype(xp.isfinite(loss), finite.dtype)
    return finite, updates + finite
