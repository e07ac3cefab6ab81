"""Updates of parameters."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.kernels.table import Kernel


@Kernel
def adam(
    parameter: Array,
    gradient: Array,
    m: Array,
    v: Array,
    step: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """One Adam update; returns the new parameter and moments.

    ``parameter - step * m / (sqrt(v) + eps)`` with the bias-corrected `step`. A backend
    may write the results into the memory of `parameter`, `m` and `v`.
    """
    xp = array_namespace(parameter, gradient)
    m = m * beta1 + gradient * (1 - beta1)
    v = v * beta2 + gradient * gradient * (1 - beta2)
    return parameter - m / (xp.sqrt(v) + eps) * step, m, v
