"""The networks of ``torch_layers.py``: ours, pytorch_ard's, and plain torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import _torch_networks as plain
import torch.nn.functional as F
from torch import Tensor, nn

from vdcore.backends import torch_backend as vd

try:
    import torch_ard
except ImportError:  # the rival, pytorch_ard 0.2.4, is measured where it is there
    torch_ard = None


class Layers(NamedTuple):
    """A package's layers: functions of the sizes."""

    linear: Callable[[int, int], nn.Module]
    convolution: Callable[[int, int, int], nn.Module]
    kl: Callable[[nn.Module], Any]


def _plain_kl(network: nn.Module) -> Any:
    layers = [x for x in network.modules() if isinstance(x, plain.Variational)]
    return sum(layer.kl() for layer in layers)


PACKAGES = {
    "vdcore": Layers(vd.LinearVD, vd.Conv2dVD, vd.kl_divergence),
    "plain torch": Layers(
        plain.VariationalLinear, plain.VariationalConvolution, _plain_kl
    ),
}
if torch_ard is not None:
    PACKAGES["pytorch_ard"] = Layers(
        torch_ard.LinearARD, torch_ard.Conv2dARD, torch_ard.get_ard_reg
    )


def mlp(layers: Layers) -> nn.Module:
    """784-300-100-10 with ReLU."""
    linear = layers.linear
    return nn.Sequential(
        linear(784, 300), nn.ReLU(), linear(300, 100), nn.ReLU(), linear(100, 10)
    )


def wide(layers: Layers) -> nn.Module:
    """Three layers of 1024 units, and 10 outputs."""
    linear = layers.linear
    return nn.Sequential(
        *(linear(1024, 1024), nn.ReLU(), linear(1024, 1024), nn.ReLU()),
        linear(1024, 10),
    )


def convolutional(layers: Layers) -> nn.Module:
    """LeNet-5 of the examples."""
    return nn.Sequential(
        *(layers.convolution(1, 20, 5), nn.MaxPool2d(2)),
        *(layers.convolution(20, 50, 5), nn.MaxPool2d(2)),
        *(nn.Flatten(), layers.linear(800, 500), nn.ReLU(), layers.linear(500, 10)),
    )


def objective(
    network: nn.Module, layers: Layers, num_examples: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Mean cross-entropy + KL / `num_examples`."""

    def loss(x: Tensor, t: Tensor) -> Tensor:
        return F.cross_entropy(network(x), t) + layers.kl(network) / num_examples

    return loss
