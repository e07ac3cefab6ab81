"""Multipliers of units, gates or words, with a Gaussian posterior."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore import initializers, variational
from vdcore.arrays import (
    Array,
    array_namespace,
    asarray_like,
    check_array,
    untraced,
)
from vdcore.configuration import config
from vdcore.links.variational_link import LOG_ALPHA_CLIP, VariationalLink
from vdcore.links.weighted import WeightedLink


class VariationalDropoutScale(VariationalLink, WeightedLink):
    """Product with one number a unit, trained by sparse variational dropout.

    A multiplier that is noise removes its unit as a whole: this is sparsity of groups
    of weights. In training each example has a draw of its own, which all steps of its
    sequence share; with ``config.train`` False multipliers are their means, those that
    are noise 0.

    Parameters
    ----------
    size : int
        Number of multipliers.
    initialW : Initializer, number or numpy.ndarray, optional
        First means. Default 1.
    p_threshold, loga_threshold, initial_log_sigma2, mask_in_training, kl, clip, rng
        As of :class:`VariationalDropoutLinear`.

    Attributes
    ----------
    W, log_sigma2 : Parameter, shape (size,)

    References
    ----------
    Chirkova, Lobacheva, Vetrov, "Bayesian compression for natural language processing",
    EMNLP 2018, section 3.

    Notes
    -----
    Multipliers belong to the weights that they are multiplied with, so statistics and
    sizes do not count them; the KL term does.
    """

    is_weighted = False

    def __init__(
        self,
        size: int,
        initialW: Any = None,
        p_threshold: float | None = None,
        loga_threshold: float | None = None,
        initial_log_sigma2: Any = None,
        *,
        mask_in_training: bool = False,
        kl: str = "molchanov",
        clip: float | None = LOG_ALPHA_CLIP,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self.size = self._check_size("size", size)
        one = initializers.Constant(1)
        first = initializers.get_initializer(initialW, one)
        self._setup_weights(size, True, first, None)
        self._setup_variational(
            p_threshold,
            loga_threshold,
            initial_log_sigma2,
            mask_in_training,
            kl,
            clip,
            rng,
        )
        self.W.initialize((size,))
        self.log_sigma2.initialize((size,))

    def place(self, like: Array) -> None:
        """Move the multipliers to the library and device of an array."""
        for parameter in self.params():
            parameter.array = asarray_like(parameter.array, like)

    def forward(self, x: Array) -> Array:
        """Multiply `x`, shape (batch, size) or (time, batch, size), by multipliers.

        Raises
        ------
        ValueError
            If `x` has another shape.
        TypeError
            If it is no array.
        """
        check_array(type(self).__name__, "x", x)
        shape = tuple(x.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.size:
            message = (
                f"{type(self).__name__}: `x` must have shape (batch, {self.size}) or "
                f"(time, batch, {self.size}), got {shape}"
            )
            raise ValueError(message)
        return x * self.draw(shape[-2])

    def draw(self, batch: int) -> Array:
        """Multipliers of each example: shape (batch, size), or (size,) in testing."""
        if not config.train:
            return self.masked_W()
        W = self.W.array
        xp = array_namespace(W)
        each = xp.ones((batch, 1), dtype=untraced(W).dtype)
        noise = self.draw_noise((batch, self.size), like=W)
        return F.sample_weights(
            each * W, each * self.log_sigma2.array, noise, self.training_threshold
        )

    def draw_rows(self, ids: Array) -> Array:
        """Multipliers of rows of a table, shape (*ids.shape, 1).

        Places of one row in one example (in one column of the last axis) share a draw.
        """
        W, log_sigma2 = (
            F.embed_id(ids, array_namespace(p.array).reshape(p.array, (-1, 1)))
            for p in (self.W, self.log_sigma2)
        )
        if not config.train:
            keep = variational.keep_mask(
                variational.log_alpha(W, log_sigma2), self.loga_threshold
            )
            return array_namespace(W).where(keep, W, 0 * W)
        xp = array_namespace(ids)
        examples = xp.arange(ids.shape[-1], dtype=xp.int64)
        rows = xp.astype(ids, xp.int64) + self.size * examples
        noise = self.draw_row_noise(rows, 1)
        return F.sample_weights(W, log_sigma2, noise, self.training_threshold)
