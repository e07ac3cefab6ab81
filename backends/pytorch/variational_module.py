"""What all torch modules with a Gaussian posterior on their weights have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vdcore import kernels, variational
from vdcore.backends.pytorch.divergence import divergence
from vdcore.backends.pytorch.sampled_weights import sampled_weights
from vdcore.variational.pruning import THRESHOLD

LOG_ALPHA_CLIP = 8.0  # of the authors' code, as of the links
INITIAL_LOG_SIGMA2 = -10.0  # likewise


class VariationalModule(nn.Module):
    """Mix-in for torch layers whose weights have log variances.

    It comes before the layer's class. Parameters keep the layer's names; the log
    variances of ``weight`` are ``log_sigma2``, those of ``weight_ih_l0``
    ``log_sigma2_ih_l0``, and so on.

    Attributes
    ----------
    threshold : float
        Weights with log alpha above it are noise: they are left out in evaluation, in
        reports and when the module is pruned.
    kl : {"molchanov", "exact"}
    clip : float or None
        Limit of log alpha in the KL term.
    mask_in_training : bool
        Whether noise weights are masked in training too. A masked weight has no
        gradient, so it does not come back.
    generator : torch.Generator or None
        Source of the noise; None is torch's own.
    """

    dense_class: type[nn.Module]  # what pruning makes of it

    threshold: float
    kl: str
    clip: float | None
    mask_in_training: bool
    generator: torch.Generator | None

    @property
    def weight_names(self) -> Sequence[str]:
        """Names of the parameters that have a posterior."""
        return ("weight",)

    def become_variational(
        self,
        *,
        threshold: float = THRESHOLD,
        initial_log_sigma2: float = INITIAL_LOG_SIGMA2,
        kl: str = "molchanov",
        clip: float | None = LOG_ALPHA_CLIP,
        mask_in_training: Any = False,
        generator: Any = None,
        shared: dict[int, nn.Parameter] | None = None,
    ) -> None:
        """Add the log variances to a layer that has its weights already.

        Parameters
        ----------
        threshold, initial_log_sigma2, kl, clip, mask_in_training, generator
            As of :class:`LinearVD`.
        shared : dict, optional
            Log variances by the ``id`` of their weight: a weight in it takes those,
            and one that is not is added.
        """
        name = type(self).__name__
        self.threshold = _number(name, "threshold", threshold)
        initial = _number(name, "initial_log_sigma2", initial_log_sigma2)
        if clip is not None and not _number(name, "clip", clip) > abs(self.threshold):
            message = (
                f"{name}: `clip` must be above the size of `threshold`, "
                f"{abs(self.threshold):g}, or no weight could reach it; got {clip!r}"
            )
            raise ValueError(message)
        if kl not in kernels.KL:
            known = ", ".join(map(repr, kernels.KL))
            message = f"{name}: `kl` must be one of {known}, got {kl!r}"
            raise ValueError(message)
        if not isinstance(mask_in_training, bool):
            message = (
                f"{name}: `mask_in_training` must be True or False, got "
                f"{mask_in_training!r}"
            )
            raise TypeError(message)
        if generator is not None and not isinstance(generator, torch.Generator):
            message = (
                f"{name}: `generator` must be a torch.Generator, got "
                f"{type(generator).__name__}; make one by torch.Generator()"
            )
            raise TypeError(message)
        self.kl = kl
        self.clip = clip
        self.mask_in_training = mask_in_training
        self.generator = generator
        shared = {} if shared is None else shared
        for weight_name in self.weight_names:
            weight = getattr(self, weight_name)
            if not weight.is_floating_point():
                message = (
                    f"{name}: `{weight_name}` must be of a floating-point dtype, got "
                    f"{weight.dtype}; convert it, for example by `.float()`"
                )
                raise TypeError(message)
            if id(weight) not in shared:
                values = torch.full_like(weight.detach(), initial)
                # A frozen layer stays frozen.
                new = nn.Parameter(values, requires_grad=weight.requires_grad)
                shared[id(weight)] = new
            self.register_parameter(log_sigma2_name(weight_name), shared[id(weight)])

    def become_dense(self) -> None:
        """Become the plain layer that answers as this one does in evaluation."""
        with torch.no_grad():
            for name in self.weight_names:
                weight = getattr(self, name)
                weight.copy_(self.masked(name))
        for name in self.weight_names:
            delattr(self, log_sigma2_name(name))
        for option in ("threshold", "kl", "clip", "mask_in_training", "generator"):
            delattr(self, option)
        self.__class__ = self.dense_class

    def posterior(self, name: str = "weight") -> tuple[Tensor, Tensor]:
        """Means and log variances of a weight."""
        return getattr(self, name), getattr(self, log_sigma2_name(name))

    def log_alpha(self, name: str = "weight") -> Tensor:
        """Log alpha of every element of a weight, without gradient."""
        weight, log_sigma2 = self.posterior(name)
        return variational.log_alpha(weight.detach(), log_sigma2.detach())

    def keep_mask(self, name: str = "weight") -> Tensor:
        """Mask of the elements of a weight that count."""
        return variational.keep_mask(
            VariationalModule.log_alpha(self, name), self.threshold
        )

    def masked(self, name: str = "weight") -> Tensor:
        """Means of a weight with the noise at 0: the weight of evaluation."""
        weight = getattr(self, name)
        return torch.where(self.keep_mask(name), weight, torch.zeros_like(weight))

    def sampled(self, name: str = "weight") -> Tensor:
        """The weight of one call: a draw in training, :meth:`masked` otherwise."""
        if not self.training:
            return self.masked(name)
        weight, log_sigma2 = self.posterior(name)
        noise = self.draw_noise(tuple(weight.shape), weight)
        return sampled_weights(weight, log_sigma2, noise, self.training_threshold)

    @property
    def training_threshold(self) -> float | None:
        """Threshold of the masks in training, None without them."""
        return self.threshold if self.mask_in_training else None

    def draw_noise(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal draws of the dtype and on the device of `like`."""
        return torch.randn(
            shape, generator=self.generator, dtype=like.dtype, device=like.device
        )

    def kl_divergence(self) -> Tensor:
        """KL of all weights of the layer, summed, in nats; see :func:`kl_divergence`.

        float32 for parameters of half precision, whose sum would overflow.
        """
        terms = [self._weight_kl(name) for name in self.weight_names]
        return terms[0] if len(terms) == 1 else torch.stack(terms).sum()

    def _weight_kl(self, name: str, constant_row: int | None = None) -> Tensor:
        weight, log_sigma2 = self.posterior(name)
        return divergence(
            weight,
            log_sigma2,
            kl=self.kl,
            clip=self.clip,
            threshold=self.training_threshold,
            constant_row=constant_row,
        )

    def layer_sizes(self, path: str) -> Iterator[variational.LayerSize]:
        """Counts of what pruning leaves, one for each weight; `path` of the module."""
        names = self.weight_names
        own = sum(p.numel() for p in self.parameters(recurse=False))
        others = own - 2 * sum(getattr(self, name).numel() for name in names)
        for name in names:
            weight, log_sigma2 = (x.detach() for x in self.posterior(name))
            yield variational.layer_size(
                path if names == ("weight",) else f"{path}.{name}".lstrip("."),
                self._by_output(self.keep_mask(name)),
                self._by_output(weight),
                self._by_output(log_sigma2),
                others=others,
                groups=getattr(self, "groups", 1),
            )
            others = 0  # counted with the first

    def _by_output(self, weights: Tensor) -> Tensor:
        """Weights as (outputs, inputs, ...)."""
        return weights

    def extra_repr(self) -> str:
        """Arguments of the layer, and the threshold."""
        own = super().extra_repr()
        return f"{own}, threshold={self.threshold:g}".lstrip(", ")


def log_sigma2_name(weight_name: str) -> str:
    """Name of the log variances that belong to a weight."""
    return weight_name.replace("weight", "log_sigma2")


def check_input(
    operation: str, x: Any, weight: Tensor, argument: str = "input"
) -> None:
    """Raise unless `x` is a tensor of the dtype and on the device of the weights.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(x, Tensor):
        message = (
            f"{operation}: `{argument}` must be a torch.Tensor, got "
            f"{type(x).__module__}.{type(x).__name__}; convert it, for example by "
            "torch.from_numpy"
        )
        raise TypeError(message)
    if x.device != weight.device:
        message = (
            f"{operation}: `{argument}` must be on the device of the weights, "
            f"{weight.device}, got {x.device}; move one of them by `.to`"
        )
        raise ValueError(message)
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        message = (
            f"{operation}: `{argument}` must have the dtype of the weights, "
            f"{weight.dtype}, got {x.dtype}; convert one of them by `.to`"
        )
        raise TypeError(message)


def _number(name: str, argument: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = (
            f"{name}: `{argument}` must be a number, got {type(value).__name__}; give "
            "one log variance or log alpha for all weights"
        )
        raise TypeError(message)
    if not math.isfinite(value):
        message = f"{name}: `{argument}` must be finite, got {value!r}"
        raise ValueError(message)
    return float(value)
