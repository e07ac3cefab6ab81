"""KL divergence of a weight, summed, keeping nothing for the backward pass.

Written with torch's functions it keeps a dozen arrays of the weight's size. Here the
backward pass computes the gradients from the weight again, which on a CPU is one
compiled loop of :mod:`vdcore.backends.numpy_backend` over the tensor's own memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

import vdcore.backends.numpy_backend as numpy_backend
from vdcore import kernels, variational
from vdcore.arrays import array_namespace
from vdcore.backends.cpu.threads import limited_to
from vdcore.variational.kl import K1, K2, K3
from vdcore.variational.reparameterization import EPS

# Looked up once outside torch.compile, which warns of the caches it finds inside.
for _count in (1, 2, 3):
    array_namespace(*[torch.empty(0)] * _count)
    array_namespace(*[torch.nn.Parameter(torch.empty(0))] * _count)


class _Options(NamedTuple):
    kl: str
    clip: float | None
    threshold: float | None  # weights with log alpha above it do not count
    constant_row: int | None  # neither do those of this row


def divergence(
    weight: Tensor,
    log_sigma2: Tensor,
    *,
    kl: str = "molchanov",
    clip: float | None = None,
    threshold: float | None = None,
    constant_row: int | None = None,
) -> Tensor:
    """Summed KL divergence of a weight from the log-uniform prior, in nats.

    Parameters
    ----------
    weight, log_sigma2 : Tensor, same shape
    kl : {"molchanov", "exact"}
    clip : float, optional
        Limit log alpha to ``[-clip, clip]``; no gradient outside.
    threshold : float, optional
        Leave out weights with log alpha above it.
    constant_row : int, optional
        Leave out this row.

    Returns
    -------
    Tensor, shape ()
        dtype of `weight`, but float32 for half precision. Its gradient cannot be
        differentiated again.
    """
    if weight.dtype in (torch.float16, torch.bfloat16):
        weight, log_sigma2 = weight.float(), log_sigma2.float()
    options = _Options(kl, clip, threshold, constant_row)
    if torch.compiler.is_compiling():
        return _composed(weight, log_sigma2, options)
    return _Divergence.apply(weight, log_sigma2, options)


def _composed(weight: Tensor, log_sigma2: Tensor, options: _Options) -> Tensor:
    """The sum as vdcore.variational has it, which torch.compile fuses."""
    log_alpha = variational.log_alpha(weight, log_sigma2)
    limited = log_alpha
    if options.clip is not None:
        limited = log_alpha.clamp(-options.clip, options.clip)
    terms = kernels.KL[options.kl][0](limited)
    if options.threshold is not None:
        keep = variational.keep_mask(log_alpha, options.threshold)
        terms = torch.where(keep, terms, torch.zeros_like(terms))
    if options.constant_row is not None:
        rows = torch.arange(len(weight), device=weight.device)
        counted = (rows != options.constant_row).unsqueeze(-1)
        terms = torch.where(counted, terms, torch.zeros_like(terms))
    return terms.sum()


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, log_sigma2: Tensor, options: _Options
    ) -> Tensor:
        ctx.save_for_backward(weight, log_sigma2)
        ctx.options = options
        value = _value(weight, log_sigma2, options)
        if options.constant_row is not None:
            row = options.constant_row
            value = value - _value(weight[row], log_sigma2[row], options)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weight, log_sigma2 = ctx.saved_tensors
        gradients = _gradients(weight, log_sigma2, ctx.options, gradient)
        if ctx.options.constant_row is not None:
            for array in gradients:
                array[ctx.options.constant_row] = 0
        return (*gradients, None)


def _value(weight: Tensor, log_sigma2: Tensor, options: _Options) -> Tensor:
    if _is_compiled(weight, log_sigma2):
        value = _compiled(weight, log_sigma2, options, 0.0).value
        return torch.tensor(value, dtype=weight.dtype)
    raw, log_alpha = _log_alpha(weight, log_sigma2, options.clip)
    if options.kl == "exact":
        terms = variational.kl_sparse_vd_exact(log_alpha)
    else:
        terms = (log_alpha * -K3).sub_(K2).sigmoid_().mul_(K1)
        terms.add_(F.softplus(log_alpha.neg_()), alpha=0.5)
    if options.threshold is not None:
        terms.masked_fill_(raw > options.threshold, 0)
    return terms.sum()


def _gradients(
    weight: Tensor, log_sigma2: Tensor, options: _Options, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of ``scale * value`` by both."""
    if _is_compiled(weight, log_sigma2):
        penalty = _compiled(weight, log_sigma2, options, float(scale))
        by_weight = torch.from_numpy(penalty.theta_gradient)
        return by_weight, torch.from_numpy(penalty.log_sigma2_gradient)
    raw, log_alpha = _log_alpha(weight, log_sigma2, options.clip)
    if options.kl == "exact":
        slope = variational.kl_sparse_vd_exact_grad(log_alpha)
    else:
        tail = (log_alpha * -K3).sub_(K2).sigmoid_()
        tail.addcmul_(tail, tail, value=-1)
        slope = log_alpha.neg_().sigmoid_().mul_(-0.5).sub_(tail, alpha=K1 * K3)
    if options.clip is not None:
        slope.masked_fill_(raw.abs() >= options.clip, 0)
    if options.threshold is not None:
        slope.masked_fill_(raw > options.threshold, 0)
    by_log_sigma2 = slope.mul_(scale)
    return by_log_sigma2 * variational.log_alpha_grad(weight), by_log_sigma2


def _log_alpha(
    weight: Tensor, log_sigma2: Tensor, clip: float | None
) -> tuple[Tensor, Tensor]:
    """Log alpha in fewer passes than vdcore.variational's, and limited; never one."""
    size = torch.hypot(weight, torch.full_like(weight[:0].sum(), EPS**0.5))
    raw = torch.sub(log_sigma2, size.log_(), alpha=2)
    return raw, raw.clone() if clip is None else raw.clamp(-clip, clip)


def _is_compiled(weight: Tensor, log_sigma2: Tensor) -> bool:
    """Whether the kernel for NumPy's arrays is there, and takes these tensors."""
    return (
        numpy_backend.COMPILED
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and log_sigma2.is_contiguous()
    )


def _compiled(
    weight: Tensor, log_sigma2: Tensor, options: _Options, scale: float
) -> kernels.Penalty:
    threshold = 0.0 if options.threshold is None else options.threshold
    # By one thread: torch's own have the cores, and wait there for their next work.
    with limited_to(1):
        return kernels.sparse_vd_penalty(
            weight.detach().numpy(),
            log_sigma2.detach().numpy(),
            threshold,
            options.threshold is not None,
            options.kl,
            options.clip,
            scale,
        )
