"""The objective of sparse variational dropout for a torch module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Real
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from vdcore.backends.pytorch.variational_module import (
    VariationalModule,
    log_sigma2_name,
)


def variational_modules(module: nn.Module) -> Iterator[tuple[str, VariationalModule]]:
    """Pairs of path and variational layer, one for each weight that layers share.

    Raises
    ------
    ValueError
        If layers share a weight, but not its log variances, or not all its weights.
    """
    owners: dict[int, tuple[str, int]] = {}
    for path, layer in module.named_modules():
        if not isinstance(layer, VariationalModule):
            continue
        new = []
        for name in layer.weight_names:
            weight, log_sigma2 = layer.posterior(name)
            owner, known = owners.setdefault(id(weight), (path, id(log_sigma2)))
            if known != id(log_sigma2):
                attribute = log_sigma2_name(name)
                message = (
                    f"variational_modules: layers `{owner}` and `{path}` share their "
                    f"weight, and must share its log variances too; assign "
                    f"`{path}.{attribute}` those of `{owner}`, or share the weight "
                    "before `convert`"
                )
                raise ValueError(message)
            new.append(owner == path)
        if all(new):
            yield path, layer
        elif any(new):
            message = (
                f"variational_modules: layer `{path}` shares some of its weights with "
                "another layer, and not the others; share all of them, or none"
            )
            raise ValueError(message)


def kl_divergence(module: nn.Module) -> Tensor:
    """KL divergence of all variational weights from their prior, summed, in nats.

    A weight that layers share counts once.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    RuntimeError
        If there is no variational layer.
    ValueError
        If layers share a weight, but not its log variances.
    """
    terms = [layer.kl_divergence() for _, layer in variational_modules(module)]
    if not terms:
        message = (
            f"kl_divergence: there is no variational layer in this "
            f"{type(module).__name__}; build it with LinearVD and the like, or call "
            "convert(module)"
        )
        raise RuntimeError(message)
    total = terms[0]
    for term in terms[1:]:
        total = total + term.to(total.device)
    return total


class ELBOLoss(nn.Module):
    """Loss of a batch plus the KL divergence of a network's weights.

    With `n_train` the negative evidence lower bound per example::

        loss_weight * loss_fn(input, target) + kl_weight * KL / n_train

    for a `loss_fn` that averages over the batch. Without it the KL is not divided, as
    in pytorch_ard: then give ``kl_weight=1 / n_train`` yourself.

    Parameters
    ----------
    net : nn.Module
        With at least one variational layer.
    loss_fn : callable
        Of `input` and `target`, for example ``F.cross_entropy``.
    n_train : int, optional
        Number of training examples that share the KL.

    Raises
    ------
    TypeError, ValueError
        If `n_train` is no positive number, `net` no module or `loss_fn` no function.
    """

    def __init__(
        self,
        net: nn.Module,
        loss_fn: Callable[..., Tensor],
        n_train: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(net, nn.Module) or not callable(loss_fn):
            message = (
                "ELBOLoss: `net` must be an nn.Module and `loss_fn` a function of "
                f"answers and targets, got {type(net).__name__} and "
                f"{type(loss_fn).__name__}"
            )
            raise TypeError(message)
        if n_train is not None:
            _check_number(n_train)
        self.net = net
        self.loss_fn = loss_fn
        self.n_train = n_train

    def forward(
        self,
        input: Any,
        target: Any,
        loss_weight: float | Tensor = 1.0,
        kl_weight: float | Tensor = 1.0,
    ) -> Tensor:
        """The objective; `input` is what the network answered, as of `loss_fn`."""
        for argument, value in {"input": input, "target": target}.items():
            if isinstance(value, numpy.ndarray):
                message = (
                    f"ELBOLoss: `{argument}` must be a torch.Tensor, or what `loss_fn` "
                    "takes, got a NumPy array; convert it by torch.from_numpy"
                )
                raise TypeError(message)
        share = kl_weight if self.n_train is None else kl_weight / self.n_train
        loss = self.loss_fn(input, target)
        return loss_weight * loss + share * kl_divergence(self.net)


def _check_number(n_train: Any) -> None:
    if isinstance(n_train, bool) or not isinstance(n_train, Real):
        message = (
            "ELBOLoss: `n_train` must be the number of training examples, got "
            f"{type(n_train).__name__}; pass len(dataset)"
        )
        raise TypeError(message)
    if not float(n_train) >= 1 or n_train == torch.inf:
        message = (
            f"ELBOLoss: `n_train` must be positive, got {n_train!r}; pass len(dataset)"
        )
        raise ValueError(message)
