"""Stochastic gradient descent, plain and with momentum."""

from __future__ import annotations

from vdcore.arrays import Array
from vdcore.optimizers.optimizer import Optimizer, check_step_size
from vdcore.parameter import Parameter
from vdcore.replay import live


class SGD(Optimizer):
    """``parameter -= lr * gradient``.

    Raises
    ------
    ValueError
        If `lr` is negative, infinite or NaN.
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = check_step_size("SGD", "lr", lr)

    def update_parameter(self, parameter: Parameter, state: dict[str, Array]) -> None:
        """Change one parameter by its gradient."""
        lr = live(lambda: self.lr, parameter.array)
        parameter.array = parameter.array - parameter.grad * lr


class MomentumSGD(Optimizer):
    """``v = momentum * v - lr * gradient; parameter += v``.

    Raises
    ------
    ValueError
        If `lr` is negative, infinite or NaN.
    """

    state_names = ("v",)
    hyperparameters = ("lr", "momentum")

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.lr = check_step_size("MomentumSGD", "lr", lr)
        self.momentum = momentum

    def update_parameter(self, parameter: Parameter, state: dict[str, Array]) -> None:
        """Change one parameter by its gradient."""
        lr = live(lambda: self.lr, parameter.array)
        state["v"] = state["v"] * self.momentum - parameter.grad * lr
        parameter.array = parameter.array + state["v"]
