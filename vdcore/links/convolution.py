"""Convolutional layer."""

from __future__ import annotations

from typing import Any

from vdcore import functions as F
from vdcore.arrays import Array, check_array
from vdcore.functions.convolution import check_groups
from vdcore.links.weighted import WeightedLink
from vdcore.windows import window


class Convolution2D(WeightedLink):
    """Two-dimensional convolution; see :func:`vdcore.functions.convolution_2d`.

    Parameters
    ----------
    in_channels : int or None
        None: taken from the first batch. With two sizes only, as in Chainer, they are
        `out_channels` and `ksize`.
    out_channels : int
    ksize : int or pair of int
        Rows and columns of the kernel.
    stride, pad : int or pair of int
    nobias : bool
        Leave out `b`.
    initialW : Initializer, number or numpy.ndarray, optional
        Default :class:`~vdcore.initializers.LeCunNormal`.
    initial_bias : Initializer, number or numpy.ndarray, optional
        Default 0.
    dilate : int or pair of int
    groups : int

    Attributes
    ----------
    W : Parameter, shape (out_channels, in_channels / groups, rows, columns)
    b : Parameter, shape (out_channels,), or None
    window : vdcore.windows.Window

    Raises
    ------
    ValueError
        If a size is no positive integer, or the channels cannot be divided into the
        groups.

    Examples
    --------
    >>> import numpy
    >>> layer = Convolution2D(3, 8, 5, stride=2, pad=2)
    >>> layer(numpy.zeros((1, 3, 32, 32), numpy.float32)).shape
    (1, 8, 16, 16)
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
        *,
        dilate: Any = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if ksize is None:
            in_channels, out_channels, ksize = None, in_channels, out_channels
        self._check_size("in_channels", 1 if in_channels is None else in_channels)
        self.out_channels = self._check_size("out_channels", out_channels)
        name = type(self).__name__
        self.window = window(name, ksize, stride, pad, dilate)
        check_groups(name, groups, in_channels or groups, self.out_channels)
        self.groups = groups
        self._setup_weights(self.out_channels, nobias, initialW, initial_bias)
        if in_channels is not None:
            self.initialize_params(in_channels)

    @property
    def in_channels(self) -> int | None:
        """Channels of an image; None until the first batch if it was not given."""
        return None if self.W.array is None else self.W.array.shape[1] * self.groups

    def initialize_params(self, in_channels: int, like: Array | None = None) -> None:
        """Make the parameters whose shape depends on the input's channels."""
        name = type(self).__name__
        check_groups(name, self.groups, in_channels, self.out_channels)
        shape = (self.out_channels, in_channels // self.groups, *self.window.size)
        self.W.initialize(shape, like)

    def forward(self, x: Array) -> Array:
        """Map images to shape (batch, out_channels, out_height, out_width)."""
        self._initialize_for(x)
        return self._convolve(x, self.W.array)

    def _convolve(self, x: Array, W: Array) -> Array:
        b = None if self.b is None else self.b.array
        return F.convolution_2d(x, W, b, **self._geometry())

    def _geometry(self) -> dict[str, Any]:
        _, stride, pad, dilate = self.window
        return {"stride": stride, "pad": pad, "dilate": dilate, "groups": self.groups}

    def _initialize_for(self, x: Array) -> None:
        check_array(type(self).__name__, "x", x)
        if not self.W.is_initialized and len(x.shape) > 1:
            self.initialize_params(x.shape[1], like=x)
