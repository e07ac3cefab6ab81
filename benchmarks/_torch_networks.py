"""The networks of the examples in torch, dense and with sparse VD: the rivals.

The mathematics is that of vdcore's layers, written as a torch user would: library
functions, no work done twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

K1, K2, K3 = 0.63576, 1.87320, 1.48695  # Molchanov et al. 2017, equation 14


class Variational(nn.Module):
    """Gaussian weights with local reparameterisation; log alpha limited to 8."""

    def __init__(self, shape: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(shape))
        self.log_sigma2 = nn.Parameter(torch.full(shape, -10.0))
        self.b = nn.Parameter(torch.zeros(shape[0])) if bias else None
        nn.init.normal_(self.W, std=math.prod(shape[1:]) ** -0.5)

    def product(self, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        """The layer's map with given weights."""
        raise AssertionError

    def forward(self, x: Tensor) -> Tensor:
        mean = self.product(x, self.W, self.b)
        if not self.training:
            return mean
        variance = self.product(x * x, self.log_sigma2.exp())
        return mean + torch.sqrt(variance + 1e-8) * torch.randn_like(mean)

    def kl(self) -> Tensor:
        """Summed KL divergence from the log-uniform prior, in nats."""
        log_alpha = self.log_sigma2 - torch.log(self.W * self.W + 1e-8)
        log_alpha = log_alpha.clamp(-8, 8)
        sigmoid = torch.sigmoid(-K2 - K3 * log_alpha)
        return (F.softplus(-log_alpha) * 0.5 + sigmoid * K1).sum()


class VariationalLinear(Variational):
    """In the place of ``nn.Linear``."""

    def __init__(self, in_size: int, out_size: int, bias: bool = True) -> None:
        super().__init__((out_size, in_size), bias)

    def product(self, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        return F.linear(x, W, b)


class VariationalConvolution(Variational):
    """In the place of ``nn.Conv2d``."""

    def __init__(
        self, inputs: int, outputs: int, size: int, padding: int = 0, bias: bool = True
    ) -> None:
        super().__init__((outputs, inputs, size, size), bias)
        self.padding = padding

    def product(self, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        return F.conv2d(x, W, b, padding=self.padding)


def lenet300100(variational: bool) -> nn.Sequential:
    """784-300-100-10 with ReLU."""
    linear = VariationalLinear if variational else nn.Linear
    return nn.Sequential(
        linear(784, 300), nn.ReLU(), linear(300, 100), nn.ReLU(), linear(100, 10)
    )


def lenet5(variational: bool) -> nn.Sequential:
    """20 and 50 channels of 5x5, each with max pooling; 800-500-10."""
    linear = VariationalLinear if variational else nn.Linear
    convolution = VariationalConvolution if variational else nn.Conv2d
    return nn.Sequential(
        convolution(1, 20, 5),
        nn.MaxPool2d(2),
        convolution(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        linear(800, 500),
        nn.ReLU(),
        linear(500, 10),
    )


def vgg16(variational: bool) -> nn.Sequential:
    """Thirteen convolutions 3x3 with batch normalisation; 512-512-10; no biases."""
    linear = VariationalLinear if variational else nn.Linear
    convolution = VariationalConvolution if variational else nn.Conv2d
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [
                convolution(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs, eps=1e-3),
                nn.ReLU(),
            ]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), linear(512, 512, bias=False)]
    layers += [nn.BatchNorm1d(512, eps=1e-3), nn.ReLU(), linear(512, 10, bias=False)]
    return nn.Sequential(*layers)


def objective(network: nn.Sequential, num_examples: int) -> Callable[..., Tensor]:
    """Mean cross-entropy + summed KL of the variational layers / `num_examples`."""
    layers = [layer for layer in network if isinstance(layer, Variational)]

    def loss(x: Tensor, t: Tensor) -> Tensor:
        value = F.cross_entropy(network(x), t)
        if layers:
            value = value + sum(layer.kl() for layer in layers) / num_examples
        return value

    return loss


def training_step(
    network: nn.Sequential,
    num_examples: int,
    x: Tensor,
    t: Tensor,
    *,
    fused: bool,
    compiled: dict[str, str] | None,
) -> Callable[[], None]:
    """One step of Adam on the batch, as a function of no arguments.

    Compiled by ``torch.compile`` with the options in `compiled`, unless that is None.
    """
    loss = objective(network, num_examples)
    if compiled is not None:
        loss = torch.compile(loss, **compiled)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        loss(x, t).backward()
        optimizer.step()

    return step
