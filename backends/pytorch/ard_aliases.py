"""The names of the package pytorch_ard 0.2.4, for scripts written for it.

Where that package is wrong the names mean what they should; ``docs/torch.md`` lists it.
"""

from __future__ import annotations

from typing import Any

import numpy
import torch
from torch import Tensor, nn

from vdcore.backends.pytorch.convolution import Conv2dVD
from vdcore.backends.pytorch.linear import LinearVD
from vdcore.backends.pytorch.objective import kl_divergence, variational_modules
from vdcore.backends.pytorch.variational_module import VariationalModule


class _PytorchArdNames(VariationalModule):
    """Methods and attributes under pytorch_ard's names."""

    @property
    def thresh(self) -> float:
        """The threshold on log alpha."""
        return self.threshold

    @thresh.setter
    def thresh(self, value: float) -> None:
        self.threshold = value

    @property
    def log_alpha(self) -> Tensor:
        """Log alpha of every weight; not limited, and without gradient."""
        return VariationalModule.log_alpha(self)

    @property
    def weights_clipped(self) -> Tensor:
        """The weights of evaluation."""
        return self.masked()

    def get_clip_mask(self) -> Tensor:
        """Mask of the weights that are left out."""
        return ~self.keep_mask()

    def get_reg(self, **kwargs: Any) -> Tensor:
        """KL divergence of the layer, in nats."""
        return self.kl_divergence()

    def get_dropped_params_cnt(self) -> numpy.ndarray:
        """How many weights are left out."""
        return self.get_clip_mask().sum().cpu().numpy()


class LinearARD(_PytorchArdNames, LinearVD):
    """:class:`LinearVD` with pytorch_ard's arguments and first weights, N(0, 0.02^2).

    Parameters
    ----------
    in_features, out_features, bias
        As of ``torch.nn.Linear``.
    thresh : float
        `threshold` of :class:`LinearVD`.
    ard_init : float
        `initial_log_sigma2` of :class:`LinearVD`.
    **options
        Further ones of :class:`LinearVD`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        thresh: float = 3,
        ard_init: float = -10,
        **options: Any,
    ) -> None:
        LinearVD.__init__(
            self,
            in_features,
            out_features,
            bias,
            threshold=thresh,
            initial_log_sigma2=ard_init,
            **options,
        )
        self.ard_init = ard_init

    def reset_parameters(self) -> None:
        """Draw the weights anew; biases are 0."""
        nn.init.normal_(self.weight, 0, 0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Conv2dARD(_PytorchArdNames, Conv2dVD):
    """:class:`Conv2dVD` with pytorch_ard's arguments; it has no bias unless asked for.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups
        As of ``torch.nn.Conv2d``.
    ard_init, thresh : float
        `initial_log_sigma2` and `threshold` of :class:`Conv2dVD`.
    bias : bool
        Default False, as in pytorch_ard, where it would have made the outputs NaN.
    **options
        Further ones of :class:`Conv2dVD`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        ard_init: float = -10,
        thresh: float = 3,
        *,
        bias: bool = False,
        **options: Any,
    ) -> None:
        Conv2dVD.__init__(
            self,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            threshold=thresh,
            initial_log_sigma2=ard_init,
            **options,
        )
        self.ard_init = ard_init


def get_ard_reg(module: nn.Module) -> Tensor:
    """KL divergence of all variational weights, summed, in nats; 0 if there are none.

    Otherwise :func:`kl_divergence`.
    """
    if next(variational_modules(module), None) is None:
        return torch.zeros(())
    return kl_divergence(module)


def get_dropped_params_ratio(model: nn.Module) -> float:
    """Fraction of the variational weights that are left out, from 0 to 1.

    Raises
    ------
    RuntimeError
        If there is no variational layer.
    """
    dropped = total = 0
    for _, layer in variational_modules(model):
        for name in layer.weight_names:
            keep = layer.keep_mask(name)
            dropped += keep.numel() - int(keep.sum())
            total += keep.numel()
    if not total:
        message = (
            f"get_dropped_params_ratio: there is no variational layer in this "
            f"{type(model).__name__}; build it with LinearARD, or call convert(model)"
        )
        raise RuntimeError(message)
    return dropped / total
