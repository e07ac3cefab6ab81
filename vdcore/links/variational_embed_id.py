"""Embedding with a Gaussian posterior on its vectors."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore import initializers, variational
from vdcore.arrays import Array, array_namespace, untraced
from vdcore.chain import Chain
from vdcore.configuration import config
from vdcore.links.embed_id import EmbedID
from vdcore.links.variational_link import (
    LOG_ALPHA_CLIP,
    Multiplied,
    VariationalLink,
)
from vdcore.links.variational_rules import check_multipliers, check_rule
from vdcore.links.variational_scale import VariationalDropoutScale


class VariationalDropoutEmbedID(VariationalLink, EmbedID, Chain):
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
    multipliers : tuple of str
        ``("words",)``: each word's vector is multiplied by a number of its own, which
        has a posterior too and a draw for each example, so that whole words are left
        out (Chirkova, Lobacheva and Vetrov 2018). Default none.

    Attributes
    ----------
    word_scale : VariationalDropoutScale or None
        These multipliers.
    """

    kinds_of_multipliers = ("words",)

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
        multipliers: tuple[str, ...] = (),
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
        check_multipliers(type(self).__name__, multipliers, self.kinds_of_multipliers)
        self.word_scale = None
        if multipliers:
            with self.init_scope():
                self.word_scale = VariationalDropoutScale(
                    in_size,
                    initializers.Constant(1, self.W.initializer.dtype),
                    loga_threshold=self.loga_threshold,
                    initial_log_sigma2=initial_log_sigma2,
                    mask_in_training=mask_in_training,
                    kl=kl,
                    clip=clip,
                    rng=self.rng,
                )
            self.multiplied = (Multiplied(self.word_scale, axis=0),)

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
        if new.word_scale is not None:
            new.word_scale.place(new.W.array)
        return new

    def forward(self, ids: Array) -> Array:
        """Vectors of integers of any shape: shape (*ids.shape, out_size)."""
        W = F.embed_id(ids, self.W.array)
        log_sigma2 = F.embed_id(ids, self.log_sigma2.array)
        if config.train:
            noise = self._noise(ids)
            y = F.sample_weights(W, log_sigma2, noise, self.training_threshold)
        else:
            y = self._masked(untraced(W), untraced(log_sigma2))
        return y if self.word_scale is None else y * self.word_scale.draw_rows(ids)

    def _masked(self, W: Array, log_sigma2: Array) -> Array:
        """Rows of the masked means; the whole table would be masked for a few."""
        keep = variational.keep_mask(
            variational.log_alpha(W, log_sigma2), self.loga_threshold
        )
        xp = array_namespace(W)
        return xp.where(keep, W, xp.zeros_like(W))

    def _noise(self, ids: Array) -> Array:
        """Draws for all places; the same ones for places of one word, by rule."""
        if self.noise == "activations":
            return self.draw_noise((*ids.shape, self.out_size), like=self.W.array)
        return self.draw_row_noise(ids, self.out_size)

    def _by_output(self, weights: Array) -> Array:
        """Words are inputs, as they would be of a linear layer."""
        return array_namespace(weights).matrix_transpose(weights)
