"""Torch attention with a Gaussian posterior on the weights of its projections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from vdcore.backends.pytorch.linear import LinearVD
from vdcore.backends.pytorch.variational_module import VariationalModule, check_input


class _OutputProjectionVD(LinearVD):
    """Its weights are read by the attention; its own forward is not run."""

    dense_class = NonDynamicallyQuantizableLinear


class MultiheadAttentionVD(VariationalModule, nn.MultiheadAttention):
    """``nn.MultiheadAttention`` trained by sparse variational dropout.

    The weights of queries, keys, values and outputs have posteriors; in training there
    is one draw of them for a call, in evaluation they are their means without the
    noise. torch's fused kernel for evaluation, which would read the means with it, is
    not used.

    Parameters
    ----------
    embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, \
batch_first, device, dtype
        As of ``torch.nn.MultiheadAttention``.
    **options
        `threshold`, `initial_log_sigma2`, `kl`, `clip`, `mask_in_training` and
        `generator`, as of :class:`LinearVD`.

    Raises
    ------
    ValueError, TypeError
        As of :class:`LinearVD`.
    """

    dense_class = nn.MultiheadAttention

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        nn.MultiheadAttention.__init__(
            self, embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn,
            kdim, vdim, batch_first, device, dtype,
        )  # fmt: skip
        self.become_variational(**options)

    @property
    def weight_names(self) -> Sequence[str]:
        """Names of the projections' weights, but for that of outputs."""
        if self.in_proj_weight is not None:
            return ("in_proj_weight",)
        return ("q_proj_weight", "k_proj_weight", "v_proj_weight")

    def become_variational(self, **options: Any) -> None:
        """Add the log variances to a layer that has its weights already."""
        super().become_variational(**options)
        self.out_proj.__class__ = _OutputProjectionVD
        self.out_proj.become_variational(**options)

    def become_dense(self) -> None:
        """Become the plain layer that answers as this one does in evaluation."""
        super().become_dense()
        if isinstance(self.out_proj, _OutputProjectionVD):
            self.out_proj.become_dense()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; arguments and results as of ``torch.nn.MultiheadAttention``."""
        name, weight = type(self).__name__, self.out_proj.weight
        for argument, x in {"query": query, "key": key, "value": value}.items():
            check_input(name, x, weight, argument)
        weights = {
            name: self.sampled(name)
            for name in self.weight_names
            if name != "in_proj_weight"
        }
        joint = None if weights else self.sampled("in_proj_weight")
        swapped = self.batch_first and query.dim() == 3
        if swapped:
            # One tensor stays one: it is projected in one product then.
            moved = {id(x): x.transpose(0, 1) for x in (query, key, value)}
            query, key, value = (moved[id(x)] for x in (query, key, value))
        output, attention = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            joint,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.sampled(),
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=bool(weights),
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            **weights,
        )
        return (output.transpose(0, 1) if swapped else output), attention
