"""The networks of the MNIST example, plain and variational."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class LeNet5(Chain):
    """LeNet-5 in Caffe's layout: 430,500 weights, 580 biases.

    Convolutions 5x5 to 20 and 50 channels, each followed by max pooling, then
    800-500-10 with a rectifier between. `relu_after_convolutions` puts rectifiers
    there too, as the authors of sparse variational dropout did; Caffe and the Chainer
    original have none.
    """

    def __init__(
        self, initialW: Any = None, *, relu_after_convolutions: bool = False
    ) -> None:
        super().__init__()
        self.relu_after_convolutions = relu_after_convolutions
        with self.init_scope():
            self.conv1 = L.Convolution2D(1, 20, 5, initialW=initialW)
            self.conv2 = L.Convolution2D(20, 50, 5, initialW=initialW)
            self.fc3 = L.Linear(800, 500, initialW=initialW)
            self.fc4 = L.Linear(500, 10, initialW=initialW)

    def forward(self, x: Any) -> Any:
        """Scores of the ten classes, shape (batch, 10), of x (batch, 1, 28, 28)."""
        h = F.max_pooling_2d(self.conv1(x), 2)
        if self.relu_after_convolutions:
            h = F.relu(h)
        h = F.max_pooling_2d(self.conv2(h), 2)
        if self.relu_after_convolutions:
            h = F.relu(h)
        return self.fc4(F.relu(self.fc3(h)))


class LeNet5VD(L.VariationalDropoutChain, LeNet5):
    """LeNet-5 whose weights are learned by sparse variational dropout.

    `variational` holds options of the layers, for example ``{"kl": "exact"}``.
    """

    def __init__(self, *, variational: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.to_variational_dropout(**(variational or {}))


class Model(NamedTuple):
    """What ``--model`` chooses: a plain network, its variational form, its images."""

    plain: Any
    variational: Any
    ndim: int  # 1: vectors; 3: one channel, rows, columns


MODELS = {
    "lenet300100": Model(LeNet300100, LeNet300100VD, ndim=1),
    "lenet5": Model(LeNet5, LeNet5VD, ndim=3),
}
MODELS |= {"fc": MODELS["lenet300100"], "conv": MODELS["lenet5"]}
