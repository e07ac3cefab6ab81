"""Convolutional layer with a Gaussian posterior on its weights."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore.arrays import Array, untraced
from vdcore.configuration import config
from vdcore.links.convolution import Convolution2D
from vdcore.links.variational_link import LOG_ALPHA_CLIP, VariationalLink


class VariationalDropoutConvolution2D(VariationalLink, Convolution2D):
    """Convolution trained by sparse variational dropout.

    In training the output is sampled by local reparameterisation, with a draw of its
    own at every position; with ``config.train`` False it is that of the mean weights
    with the noise weights left out.

    Parameters
    ----------
    in_channels, out_channels, ksize, stride, pad, nobias, initialW, initial_bias
        As of :class:`Convolution2D`.
    deterministic : bool
        Whether to ask a GPU library that has a choice for an algorithm whose results
        repeat bit for bit. Those on a CPU always do.
    p_threshold, loga_threshold, initial_log_sigma2
        As of :class:`VariationalDropoutLinear`.
    dilate, groups
        As of :class:`Convolution2D`.
    mask_in_training, kl, clip, rng
        As of :class:`VariationalDropoutLinear`.

    Raises
    ------
    ValueError
        If a size does not fit, both thresholds are given, or one lies outside its
        range.

    References
    ----------
    Molchanov, Ashukha, Vetrov, ICML 2017, section 4.4.
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int | None,
        ksize: Any = None,
        stride: Any = 1,
        pad: Any = 0,
        nobias: bool = False,
        initialW: Any = None,
        initial_bias: Any = None,
        deterministic: bool = False,
        p_threshold: float | None = None,
        loga_threshold: float | None = None,
        initial_log_sigma2: Any = None,
        *,
        dilate: Any = 1,
        groups: int = 1,
        mask_in_training: bool = False,
        kl: str = "molchanov",
        clip: float | None = LOG_ALPHA_CLIP,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        if ksize is None:
            in_channels, out_channels, ksize = None, in_channels, out_channels
        super().__init__(
            None,
            out_channels,
            ksize,
            stride,
            pad,
            nobias,
            initialW,
            initial_bias,
            dilate=dilate,
            groups=groups,
        )
        self.deterministic = deterministic
        self._setup_variational(
            p_threshold,
            loga_threshold,
            initial_log_sigma2,
            mask_in_training,
            kl,
            clip,
            rng,
        )
        if in_channels is not None:
            self.initialize_params(self._check_size("in_channels", in_channels))

    @classmethod
    def from_link(
        cls, link: Convolution2D, **options: Any
    ) -> VariationalDropoutConvolution2D:
        """A variational layer with the weights (copied) and bias of a plain one.

        Parameters
        ----------
        link : Convolution2D
            Its geometry and its bias, or lack of one, are kept; if its shape is not
            known yet, neither is the new layer's.
        **options
            Further arguments of this class.
        """
        new = cls(
            None,
            link.out_channels,
            link.window.size,
            nobias=link.b is None,
            initialW=link.W.initializer,
            **link._geometry(),
            **options,
        )
        new.take_weights(link, link.in_channels)
        return new

    def forward(self, x: Array) -> Array:
        """Map images to shape (batch, out_channels, out_height, out_width)."""
        self._initialize_for(x)
        if not config.train:
            return self._convolve(x, self.masked_W())
        batch, _, *size = untraced(x).shape
        positions = self.window.positions(tuple(size))
        noise = self.draw_noise((batch, self.out_channels, *positions), like=x)
        return F.vd_convolution_2d(
            x,
            self.W.array,
            self.log_sigma2.array,
            None if self.b is None else self.b.array,
            noise,
            self.training_threshold,
            **self._geometry(),
        )
