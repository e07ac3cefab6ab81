"""Torch embedding with a Gaussian posterior on its vectors."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdcore import variational
from vdcore.backends.pytorch.sampled_weights import sampled_weights
from vdcore.backends.pytorch.variational_module import VariationalModule
from vdcore.links.variational_rules import check_rule


class EmbeddingVD(VariationalModule, nn.Embedding):
    """``nn.Embedding`` trained by sparse variational dropout.

    In evaluation the vectors are their means with the noise weights at 0. The vector of
    `padding_idx` is a constant: it has no noise, and no part in the KL term.

    Parameters
    ----------
    num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, \
scale_grad_by_freq, sparse, device, dtype
        As of ``torch.nn.Embedding``; `sparse` must be False, for the KL term has a
        gradient for all vectors.
    noise : {"weights", "activations"}
        "weights": one draw for each word that occurs in a call, shared by its places
        (Chirkova, Lobacheva and Vetrov 2018). "activations": a draw for each place
        (Gale, Elsen and Hooker 2019).
    **options
        `threshold`, `initial_log_sigma2`, `kl`, `clip`, `mask_in_training` and
        `generator`, as of :class:`LinearVD`.

    Raises
    ------
    ValueError
        If `sparse` is True or `noise` unknown, and as of :class:`LinearVD`.
    TypeError
        As of :class:`LinearVD`.
    """

    dense_class = nn.Embedding
    noise: str

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        nn.Embedding.__init__(
            self, num_embeddings, embedding_dim, padding_idx, max_norm, norm_type,
            scale_grad_by_freq, sparse, _weight, _freeze, device, dtype,
        )  # fmt: skip
        self.become_variational(**options)

    def become_variational(self, *, noise: str = "weights", **options: Any) -> None:
        """Add the log variances to an embedding that has its vectors already."""
        name = type(self).__name__
        check_rule(name, noise)
        if self.sparse:
            message = (
                f"{name}: `sparse` must be False, as the KL term has a gradient for "
                "all vectors; got True"
            )
            raise ValueError(message)
        super().become_variational(**options)
        self.noise = noise

    def become_dense(self) -> None:
        """Become the plain embedding that answers as this one does in evaluation."""
        super().become_dense()
        del self.noise

    def keep_mask(self, name: str = "weight") -> Tensor:
        """Mask of the elements that count; those of the constant vector if not 0."""
        keep = super().keep_mask(name)
        if self.padding_idx is not None:
            keep[self.padding_idx] = self.weight.detach()[self.padding_idx] != 0
        return keep

    def forward(self, input: Tensor) -> Tensor:
        """Vectors of integers of any shape: shape (*input.shape, embedding_dim)."""
        self._check(input)
        rest = (
            self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq,
        )  # fmt: skip
        mean = F.embedding(input, self.weight, *rest)
        # Its rows are not what `max_norm` is about.
        log_sigma2 = F.embedding(
            input,
            self.log_sigma2,
            self.padding_idx,
            scale_grad_by_freq=self.scale_grad_by_freq,
        )
        if self.training:
            vectors = sampled_weights(
                mean, log_sigma2, self._noise(input), self.training_threshold
            )
        else:
            log_alpha = variational.log_alpha(mean.detach(), log_sigma2.detach())
            keep = variational.keep_mask(log_alpha, self.threshold)
            vectors = torch.where(keep, mean, torch.zeros_like(mean))
        if self.padding_idx is None:
            return vectors
        return torch.where((input == self.padding_idx).unsqueeze(-1), mean, vectors)

    def _check(self, ids: Any) -> None:
        name = type(self).__name__
        if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
            kind = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
            message = (
                f"{name}: `input` must be a torch.Tensor of int64 or int32, got "
                f"{kind}; convert it, for example by `torch.as_tensor(input).long()`"
            )
            raise TypeError(message)
        if ids.device != self.weight.device:
            message = (
                f"{name}: `input` must be on the device of the weights, "
                f"{self.weight.device}, got {ids.device}; move one of them by `.to`"
            )
            raise ValueError(message)

    def _noise(self, ids: Tensor) -> Tensor:
        """Draws for all places; the same ones for places of one word, by rule."""
        shape = (*ids.shape, self.embedding_dim)
        if self.noise == "activations":
            return self.draw_noise(shape, self.weight)
        # Not as many as there are words: that number a GPU would have to be waited for.
        draws = self.draw_noise((ids.numel(), self.embedding_dim), self.weight)
        flat = ids.reshape(-1)
        place = torch.searchsorted(flat.sort().values, flat)  # the first of the word's
        return draws[place].reshape(shape)

    def _weight_kl(self, name: str, constant_row: int | None = None) -> Tensor:
        row = self.padding_idx if constant_row is None else constant_row
        return super()._weight_kl(name, row)

    def _by_output(self, weights: Tensor) -> Tensor:
        """Words are inputs, as they would be of a linear layer."""
        return weights.t()
