"""Convolutional torch layers with a Gaussian posterior on their weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vdcore.backends.pytorch.noisy_product import ConvolutionProduct, noisy_product
from vdcore.backends.pytorch.variational_module import VariationalModule, check_input


class _ConvolutionVD(VariationalModule):
    """What the three have in common."""

    dense_class: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        self.dense_class.__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation,
            groups, bias, padding_mode, device, dtype,
        )  # fmt: skip
        self.become_variational(**options)

    def forward(self, input: Tensor) -> Tensor:
        """Map images, shape (batch, in_channels, ...), or one without the batch."""
        name = type(self).__name__
        check_input(name, input, self.weight)
        axes = len(self.kernel_size)
        batched = input.dim() == axes + 2
        if (not batched and input.dim() != axes + 1) or (
            input.shape[-axes - 1] != self.in_channels
        ):
            message = (
                f"{name}: `input` must have shape (batch, {self.in_channels}, ...), "
                f"{axes} axes after the channels, or that without the batch, got "
                f"{tuple(input.shape)}"
            )
            raise ValueError(message)
        if not self.training:
            return self._conv_forward(input, self.masked(), self.bias)
        x = input if batched else input.unsqueeze(0)
        padding: Any = self.padding
        if self.padding_mode != "zeros" or padding == "same":
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=mode)
            padding = "valid"
        if padding == "valid":
            padding = (0,) * axes
        output = noisy_product(
            x,
            self.weight,
            self.log_sigma2,
            self.bias,
            self.training_threshold,
            ConvolutionProduct(self.stride, padding, self.dilation, self.groups),
            self.generator,
        )
        return output if batched else output.squeeze(0)


class Conv1dVD(_ConvolutionVD, nn.Conv1d):
    """``nn.Conv1d`` trained by sparse variational dropout; see :class:`Conv2dVD`."""

    dense_class = nn.Conv1d


class Conv2dVD(_ConvolutionVD, nn.Conv2d):
    """``nn.Conv2d`` trained by sparse variational dropout.

    In training each output has noise of its own, by local reparameterisation; in
    evaluation the mean weights are used with the noise weights left out.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, \
padding_mode, device, dtype
        As of ``torch.nn.Conv2d``; `padding` may be "same" or "valid".
    **options
        `threshold`, `initial_log_sigma2`, `kl`, `clip`, `mask_in_training` and
        `generator`, as of :class:`LinearVD`.

    Raises
    ------
    ValueError, TypeError
        As of :class:`LinearVD`.

    References
    ----------
    Molchanov, Ashukha, Vetrov, ICML 2017, section 4.4.
    """

    dense_class = nn.Conv2d


class Conv3dVD(_ConvolutionVD, nn.Conv3d):
    """``nn.Conv3d`` trained by sparse variational dropout; see :class:`Conv2dVD`."""

    dense_class = nn.Conv3d
