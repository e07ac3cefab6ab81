"""One draw of weights from their posterior, with a lean backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vdcore import kernels


class _SampledWeights(torch.autograd.Function):
    """Keeps the draws alone; standard deviations and masks are computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        log_sigma2: Tensor,
        noise: Tensor,
        threshold: float | None,
    ) -> Tensor:
        ctx.save_for_backward(weight, log_sigma2, noise)
        ctx.threshold = threshold
        return kernels.sample_weights.generic(weight, log_sigma2, noise, threshold)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, log_sigma2, noise = ctx.saved_tensors
        by_weight, by_log_sigma2 = kernels.sample_weights_backward.generic(
            gradient, weight, log_sigma2, noise, ctx.threshold
        )
        return by_weight, by_log_sigma2, None, None


def sampled_weights(
    weight: Tensor, log_sigma2: Tensor, noise: Tensor, threshold: float | None
) -> Tensor:
    """``weight + exp(log_sigma2 / 2) noise``; 0 above a threshold on log alpha.

    See :func:`vdcore.functions.sample_weights`.
    """
    return _SampledWeights.apply(weight, log_sigma2, noise, threshold)
