"""AdaDelta."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace
from vdcore.optimizers.optimizer import Optimizer, check_step_size
from vdcore.parameter import Parameter
from vdcore.replay import live


class AdaDelta(Optimizer):
    """Steps in units of the parameter (Zeiler 2012, algorithm 1).

    Parameters
    ----------
    rho : float
        Decay of the running means of squared gradients and squared steps.
    eps : float
        Added to both before the root.
    lr : float
        Factor of the step; 1 in the paper and in Chainer.

    Raises
    ------
    ValueError
        If `lr` is negative, infinite or NaN.
    """

    state_names = ("msg", "msdx")
    hyperparameters = ("rho", "eps", "lr")

    def __init__(self, rho: float = 0.95, eps: float = 1e-6, lr: float = 1.0) -> None:
        super().__init__()
        self.rho = rho
        self.eps = eps
        self.lr = check_step_size("AdaDelta", "lr", lr)

    def update_parameter(self, parameter: Parameter, state: dict[str, Array]) -> None:
        """Change one parameter by its gradient."""
        gradient = parameter.grad
        xp = array_namespace(gradient)
        msg = state["msg"] * self.rho + gradient * gradient * (1 - self.rho)
        step = gradient * xp.sqrt((state["msdx"] + self.eps) / (msg + self.eps))
        state["msg"] = msg
        state["msdx"] = state["msdx"] * self.rho + step * step * (1 - self.rho)
        parameter.array = parameter.array - step * live(lambda: self.lr, step)
