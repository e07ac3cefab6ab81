"""The networks of the MNIST example, plain and variational."""

from __future__ import annotations

from typing import Any

from vdcore import Chain
from vdcore import functions as F
from vdcore import links as L


class LeNet300100(Chain):
    """LeNet-300-100: 784-300-100-10 with rectifiers; 266,200 weights, 410 biases."""

    def __init__(self, initialW: Any = None) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(784, 300, initialW=initialW)
            self.l2 = L.Linear(300, 100, initialW=initialW)
            self.l3 = L.Linear(100, 10, initialW=initialW)

    def forward(self, x: Any) -> Any:
        """Scores of the ten classes, shape (batch, 10)."""
        h = F.relu(self.l1(x))
        h = F.relu(self.l2(h))
        return self.l3(h)


class LeNet300100VD(L.VariationalDropoutChain, LeNet300100):
    """LeNet-300-100 whose weights are learned by sparse variational dropout.

    `variational` holds options of the layers, for example ``{"kl": "exact"}``.
    """

    def __init__(self, *, variational: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to_variational_dropout(**(variational or {}))


# What --model chooses: the plain network and its variational form.
MODELS: dict[str, tuple[Any, Any]] = {"lenet300100": (LeNet300100, LeNet300100VD)}
MODELS["fc"] = MODELS["lenet300100"]
