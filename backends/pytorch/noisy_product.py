"""Linear maps with Gaussian weights, by local reparameterisation.

The gradients are written by hand, so that the backward pass keeps the input and one
array of the output's size; torch would keep the variances of the weights, and several
arrays more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vdcore import variational
from vdcore.variational.reparameterization import EPS

HALF = (torch.float16, torch.bfloat16)
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class LinearProduct(NamedTuple):
    """``x W^T + b`` of rows."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map of `x`, shape (batch, in_features)."""
        if bias is None:
            return torch.mm(x, weight.t())
        return torch.addmm(bias, x, weight.t())

    def backward(
        self, gy: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool, bool]
    ) -> Gradients:
        """Gradients by `x`, `weight` and the bias; None where they are not needed."""
        return (
            torch.mm(gy, weight) if needs[0] else None,
            torch.mm(gy.t(), x) if needs[1] else None,
            gy.sum(0) if needs[2] else None,
        )


class ConvolutionProduct(NamedTuple):
    """Convolution of one, two or three axes, padded with zeros."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map of `x`, shape (batch, in_channels, ...)."""
        return torch.ops.aten.convolution(
            x, weight, bias, self.stride, self.padding, self.dilation, False,
            [0] * len(self.stride), self.groups,
        )  # fmt: skip

    def backward(
        self, gy: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool, bool]
    ) -> Gradients:
        """Gradients by `x`, `weight` and the bias; None where they are not needed."""
        return torch.ops.aten.convolution_backward(
            gy, x, weight, [weight.shape[0]], self.stride, self.padding,
            self.dilation, False, [0] * len(self.stride), self.groups, list(needs),
        )  # fmt: skip


Product = LinearProduct | ConvolutionProduct


class _NoisyProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        log_sigma2: Tensor,
        bias: Tensor | None,
        noise: Tensor,
        keep: Tensor | None,
        product: Product,
    ) -> Tensor:
        mean = product.forward(x, _masked(weight, keep), bias)
        sigma2 = _variances(log_sigma2, keep, noise.dtype)
        std = product.forward(x.to(noise.dtype).square(), sigma2, None)
        std = std.add_(_floor(noise.dtype)).sqrt_()
        ctx.save_for_backward(x, weight, log_sigma2, keep, noise / std)
        ctx.product = product
        return mean.add_(std.mul_(noise))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor) -> Any:
        x, weight, log_sigma2, keep, residual = ctx.saved_tensors
        needs_x, needs_weight, needs_log_sigma2, needs_bias, *_ = ctx.needs_input_grad
        product = ctx.product
        gx, gweight, gbias = product.backward(
            gy, x, _masked(weight, keep), (needs_x, needs_weight, needs_bias)
        )
        # Twice the gradient by the variance; the half of it is made good for below.
        gvariance = gy.to(residual.dtype) * residual
        sigma2 = _variances(log_sigma2, keep, residual.dtype)
        wide = x.to(residual.dtype)
        gx2, gsigma2, _ = product.backward(
            gvariance, wide.square(), sigma2, (needs_x, needs_log_sigma2, False)
        )
        if needs_x:
            gx = gx.addcmul_(gx2.to(x.dtype), x)
        if needs_weight and keep is not None:
            gweight = _masked(gweight, keep)
        glog_sigma2 = None
        if needs_log_sigma2:
            glog_sigma2 = gsigma2.mul_(sigma2).mul_(0.5).to(log_sigma2.dtype)
        return gx, gweight, glog_sigma2, gbias, None, None, None


def noisy_product(
    x: Tensor,
    weight: Tensor,
    log_sigma2: Tensor,
    bias: Tensor | None,
    threshold: float | None,
    product: Product,
    generator: torch.Generator | None,
) -> Tensor:
    """A linear map of `x` with Gaussian weights, one draw for each output.

    ``mean + sqrt(variance + 1e-8) * noise`` with the mean of the map by the means of
    the weights, and the variance that of ``x^2`` by their variances (Molchanov et al.
    2017, equation 17).

    Parameters
    ----------
    x : Tensor
    weight, log_sigma2 : Tensor, same shape
        Means and log variances.
    bias : Tensor or None
    threshold : float or None
        Weights with log alpha above it have mean and variance 0, and no gradient.
    product : LinearProduct or ConvolutionProduct
    generator : torch.Generator or None

    Returns
    -------
    Tensor
        dtype of `x`, or of autocast. Variances of half precision are of bfloat16, which
        has float32's range: squares of float16 would overflow.
    """
    keep = None
    if threshold is not None:
        log_alpha = variational.log_alpha(weight.detach(), log_sigma2.detach())
        keep = variational.keep_mask(log_alpha, threshold)
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return _noisy(x, weight, log_sigma2, bias, keep, product, generator)
    dtype = torch.get_autocast_dtype(device)
    x, weight = x.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(device, enabled=False):
        return _noisy(x, weight, log_sigma2, bias, keep, product, generator)


def _noisy(
    x: Tensor,
    weight: Tensor,
    log_sigma2: Tensor,
    bias: Tensor | None,
    keep: Tensor | None,
    product: Product,
    generator: torch.Generator | None,
) -> Tensor:
    dtype = torch.bfloat16 if x.dtype in HALF else x.dtype
    shape = _output_shape(x, weight, product)
    noise = torch.randn(shape, generator=generator, dtype=dtype, device=x.device)
    return _NoisyProduct.apply(x, weight, log_sigma2, bias, noise, keep, product)


def _output_shape(x: Tensor, weight: Tensor, product: Product) -> list[int]:
    shape = [x.shape[0], weight.shape[0]]
    if isinstance(product, ConvolutionProduct):
        for size, window, stride, padding, dilation in zip(
            x.shape[2:], weight.shape[2:], *product[:3], strict=True
        ):
            extent = dilation * (window - 1) + 1
            shape.append((size + 2 * padding - extent) // stride + 1)
    return shape


def _variances(log_sigma2: Tensor, keep: Tensor | None, dtype: torch.dtype) -> Tensor:
    if log_sigma2.dtype in HALF:
        log_sigma2 = log_sigma2.float()  # float16 cannot tell exp(-20) from 0
    return _masked(log_sigma2.exp().to(dtype), keep)


def _masked(weights: Tensor, keep: Tensor | None) -> Tensor:
    if keep is None:
        return weights
    return torch.where(keep, weights, torch.zeros_like(weights))


def _floor(dtype: torch.dtype) -> float:
    return max(EPS, torch.finfo(dtype).smallest_normal)
