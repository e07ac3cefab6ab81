"""Adam."""

from __future__ import annotations

import math

from vdcore import kernels
from vdcore.arrays import Array
from vdcore.optimizers.optimizer import Optimizer, check_step_size
from vdcore.parameter import Parameter
from vdcore.replay import live


class Adam(Optimizer):
    """Adaptive moments (Kingma, Ba 2015), in the form of its section 2.

    Parameters
    ----------
    alpha : float
        Step size.
    beta1, beta2 : float
        Decay of the first and second moment.
    eps : float
        Added to the root of the second moment (not bias-corrected).

    Raises
    ------
    ValueError
        If `alpha` is negative, infinite or NaN.
    """

    state_names = ("m", "v")
    hyperparameters = ("alpha", "beta1", "beta2", "eps")
    live_attributes = (*Optimizer.live_attributes, "alpha")

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.alpha = check_step_size("Adam", "alpha", alpha)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    @property
    def lr(self) -> float:
        """``alpha * sqrt(1 - beta2^t) / (1 - beta1^t)``, the bias-corrected step."""
        t = max(self.t, 1)
        return self.alpha * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t)

    def update_parameters(
        self,
        parameters: list[Parameter],
        states: list[dict[str, Array]],
        finite: Array | None,
    ) -> None:
        """Change parameters by their gradients, all in one pass."""
        arrays = [parameter.array for parameter in parameters]
        arrays, ms, vs = kernels.adam(
            arrays,
            [parameter.grad for parameter in parameters],
            [state["m"] for state in states],
            [state["v"] for state in states],
            live(lambda: self.lr, arrays[0]),
            self.beta1,
            self.beta2,
            self.eps,
            finite,
        )
        for parameter, state, *new in zip(
            parameters, states, arrays, ms, vs, strict=True
        ):
            parameter.array, state["m"], state["v"] = new
