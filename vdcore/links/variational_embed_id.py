"""Embedding with a Gaussian posterior on its vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy

from vdcore import functions as F
from vdcore import initializers, variational
from vdcore.arrays import Array, array_namespace, untraced
from vdcore.configuration import config
from vdcore.links.embed_id import EmbedID
from vdcore.links.variational_link import LOG_ALPHA_CLIP, VariationalLink
from vdcore.links.variational_rules import check_rule


class VariationalDropoutEmbedID(VariationalLink, EmbedID):
    """Table of vectors trained by sparse variational dropout.

    With ``config.train`` False the vectors are their means with the noise weights at 0.

    Parameters
    ----------
    in_size, out_size, initialW
        As of :class:`EmbedID`.
    p_threshold, loga_threshold, initial_log_sigma2, mask_in_training, kl, clip, rng
        As of :class:`VariationalDropoutLinear`.
    noise : {"weights", "activations"}
        "weights": one draw for each word that occurs in a call, shared by its places
        (Chirkova, Lobacheva and Vetrov 2018). "activations": a draw for each place
        (Gale, Elsen and Hooker 2019).
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        initialW: Any = None,
        p_threshold: float | None = None,
        loga_threshold: float | None = None,
        initial_log_sigma2: Any = None,
        *,
        noise: str = "weights",
        mask_in_training: bool = False,
        kl: str = "molchanov",
        clip: float | None = LOG_ALPHA_CLIP,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        EmbedID.__init__(self, in_size, out_size, initialW)
        check_rule(type(self).__name__, noise)
        self.noise = noise
        self._setup_variational(
            p_threshold,
            loga_threshold,
            initial_log_sigma2,
            mask_in_training,
            kl,
            clip,
            rng,
        )
        self.log_sigma2.initialize((in_size, out_size))

    @classmethod
    def from_link(cls, link: EmbedID, **options: Any) -> VariationalDropoutEmbedID:
        """A variational embedding with the vectors (copied) of a plain one.

        Parameters
        ----------
        link : EmbedID
        **options
            Further arguments of this class.
        """
        zero = initializers.Constant(0, link.W.initializer.dtype)
        new = cls(link.in_size, link.out_size, zero, **options)
        new.W.array = link.W.array + 0
        new.log_sigma2.initialize((link.in_size, link.out_size), like=new.W.array)
        return new

    def forward(self, ids: Array) -> Array:
        """Vectors of integers of any shape: shape (*ids.shape, out_size)."""
        W = F.embed_id(ids, self.W.array)
        log_sigma2 = F.embed_id(ids, self.log_sigma2.array)
        if not config.train:
            return self._masked(untraced(W), untraced(log_sigma2))
        return F.sample_weights(
            W, log_sigma2, self._noise(ids), self.training_threshold
        )

    def _masked(self, W: Array, log_sigma2: Array) -> Array:
        """Rows of the masked means; the whole table would be masked for a few."""
        keep = variational.keep_mask(
            variational.log_alpha(W, log_sigma2), self.loga_threshold
        )
        xp = array_namespace(W)
        return xp.where(keep, W, xp.zeros_like(W))

    def _noise(self, ids: Array) -> Array:
        """Draws for all places; the same ones for places of one word, by rule."""
        shape = (*ids.shape, self.out_size)
        if self.noise == "activations":
            return self.draw_noise(shape, like=self.W.array)
        # Not as many as there are words: that number a GPU would have to be waited for.
        draws = self.draw_noise((math.prod(ids.shape), self.out_size), self.W.array)
        xp = array_namespace(ids)
        flat = xp.reshape(ids, (-1,))
        place = xp.searchsorted(xp.sort(flat), flat)  # the first of the word's
        return xp.reshape(xp.take(draws, place, axis=0), shape)

    def _by_output(self, weights: Array) -> Array:
        """Words are inputs, as they would be of a linear layer."""
        return array_namespace(weights).matrix_transpose(weights)
