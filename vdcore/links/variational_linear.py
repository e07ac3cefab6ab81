"""Fully connected layer with a Gaussian posterior on its weights."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore.arrays import Array, untraced
from vdcore.configuration import config
from vdcore.links.linear import Linear
from vdcore.links.variational_link import LOG_ALPHA_CLIP, VariationalLink


class VariationalDropoutLinear(VariationalLink, Linear):
    """Linear layer trained by sparse variational dropout.

    In training the output is sampled by local reparameterisation; with
    ``config.train`` False it is that of the mean weights with the noise weights
    left out.

    Parameters
    ----------
    in_size, out_size, nobias, initialW, initial_bias
        As of :class:`Linear`.
    p_threshold : float, optional
        Threshold as a dropout rate ``p = alpha / (1 + alpha)``, instead of
        `loga_threshold`.
    loga_threshold : float, optional
        Weights with log alpha above it are noise. Default 3.
    initial_log_sigma2 : Initializer, number or numpy.ndarray, optional
        First log variances. Default -10.
    mask_in_training : bool
        Mask noise weights in training from the start (the Chainer original always
        does). Default False; :class:`vdcore.training.extensions.MaskFrom` starts it
        later.
    kl : {"molchanov", "exact"}
        Approximate KL of the paper (default), or the exact one.
    clip : float or None
        Limit of log alpha in the KL term. Default 8.
    rng : numpy.random.Generator, optional
        Source of the noise. Default a child of ``config.rng``.

    Raises
    ------
    ValueError
        If both thresholds are given, or one lies outside its range.

    References
    ----------
    Molchanov, Ashukha, Vetrov, ICML 2017, section 4.
    """

    is_variational_dropout_linear = True

    def __init__(
        self,
        in_size: int | None,
        out_size: int | None = None,
        nobias: bool = False,
        initialW: Any = None,
        initial_bias: Any = None,
        p_threshold: float | None = None,
        loga_threshold: float | None = None,
        initial_log_sigma2: Any = None,
        *,
        mask_in_training: bool = False,
        kl: str = "molchanov",
        clip: float | None = LOG_ALPHA_CLIP,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        if out_size is None:
            in_size, out_size = None, in_size
        super().__init__(None, out_size, nobias, initialW, initial_bias)
        self._setup_variational(
            p_threshold,
            loga_threshold,
            initial_log_sigma2,
            mask_in_training,
            kl,
            clip,
            rng,
        )
        if in_size is not None:
            self.initialize_params(self._check_size("in_size", in_size))

    @classmethod
    def from_link(cls, link: Linear, **options: Any) -> VariationalDropoutLinear:
        """A variational layer with the weights (copied) and bias of a plain one.

        Parameters
        ----------
        link : Linear
            Its bias, or lack of one, is kept; if its shape is not known yet, neither
            is the new layer's.
        **options
            Further arguments of this class.
        """
        nobias = link.b is None
        new = cls(None, link.out_size, nobias, link.W.initializer, **options)
        new.take_weights(link, link.in_size)
        return new

    def forward(self, x: Array) -> Array:
        """Map a batch, shape (batch, ...), to shape (batch, out_size)."""
        self._initialize_for(x)
        b = None if self.b is None else self.b.array
        if not config.train:
            return F.linear(x, self.masked_W(), b)
        noise = self.draw_noise((untraced(x).shape[0], self.out_size), like=x)
        return F.vd_linear(
            x,
            self.W.array,
            self.log_sigma2.array,
            b,
            noise,
            self.training_threshold,
        )
