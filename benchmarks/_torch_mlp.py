"""LeNet-300-100 in torch, dense and with sparse variational dropout: the rival.

The mathematics is that of vdcore's layers, written as a torch user would: library
functions, no work done twice.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

K1, K2, K3 = 0.63576, 1.87320, 1.48695  # Molchanov et al. 2017, equation 14


class VariationalLinear(nn.Module):
    """Gaussian weights with local reparameterisation; log alpha limited to 8."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(out_size, in_size))
        self.log_sigma2 = nn.Parameter(torch.full((out_size, in_size), -10.0))
        self.b = nn.Parameter(torch.zeros(out_size))
        nn.init.normal_(self.W, std=in_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.linear(x, self.W, self.b)
        if not self.training:
            return mean
        variance = F.linear(x * x, self.log_sigma2.exp())
        return mean + torch.sqrt(variance + 1e-8) * torch.randn_like(mean)

    def kl(self) -> Tensor:
        """Summed KL divergence from the log-uniform prior, in nats."""
        log_alpha = self.log_sigma2 - torch.log(self.W * self.W + 1e-8)
        log_alpha = log_alpha.clamp(-8, 8)
        sigmoid = torch.sigmoid(-K2 - K3 * log_alpha)
        return (F.softplus(-log_alpha) * 0.5 + sigmoid * K1).sum()


def lenet300100(variational: bool) -> nn.Sequential:
    """784-300-100-10 with ReLU."""
    linear = VariationalLinear if variational else nn.Linear
    return nn.Sequential(
        linear(784, 300), nn.ReLU(), linear(300, 100), nn.ReLU(), linear(100, 10)
    )


def objective(network: nn.Sequential, num_examples: int) -> Callable[..., Tensor]:
    """Mean cross-entropy + summed KL of the variational layers / `num_examples`."""
    layers = [layer for layer in network if isinstance(layer, VariationalLinear)]

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
    compiled: bool,
) -> Callable[[], None]:
    """One step of Adam on the batch, as a function of no arguments."""
    loss = objective(network, num_examples)
    if compiled:
        loss = torch.compile(loss)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        loss(x, t).backward()
        optimizer.step()

    return step
