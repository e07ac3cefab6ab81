"""The layers of a sparse model that take images.

An image of an example has shape (channels, height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vdcore.backends.sparse.layer import Shape, Stage, WeightedStage
from vdcore.windows import Window


@dataclass(frozen=True, eq=False)
class Convolution(WeightedStage):
    """A convolution (cross-correlation) of images and the activation after it.

    ``y[o, i, j] = b[o] + sum(W[o, (c, k, l)] x[c, i s + k d - p, j s + l d - p])`` over
    channels c of the group of o, rows k and columns l of the window, with its stride
    s, dilation d and padding p, and 0 outside the image.

    Attributes
    ----------
    name : str
    W : scipy.sparse.csr_array or numpy.ndarray
        Shape (out_channels, in_channels / groups * rows * columns), float32; as stored,
        which is whichever of the two takes fewer bytes. Column
        ``(c * rows + k) * columns + l`` is that of channel c of the group and of
        element (k, l) of the window.
    b : numpy.ndarray, shape (out_channels,) or (out_channels, out_height, out_width)
        float32; or None. :func:`vdcore.backends.sparse.shrink.shrink` makes it one
        number a pixel where a channel that it removed is a constant other than 0:
        where the window reaches into the padding, that channel counts for less.
    activation : str
        One of ``layer.ACTIVATIONS``, never softmax.
    window : vdcore.windows.Window
    groups : int
        The g-th of so many runs of output channels sees the g-th run of input channels
        only. Always 1 after ``shrink``.
    """

    window: Window = field(kw_only=True)
    groups: int = field(default=1, kw_only=True)

    @property
    def in_channels(self) -> int:
        """Channels of the images that it takes."""
        return self.W.shape[1] // math.prod(self.window.size) * self.groups

    def out_shape(self, in_shape: Shape) -> Shape:
        """Output channels, and the positions of the window."""
        channels = self.in_channels
        fits = len(in_shape) == 3 and in_shape[0] == channels
        self.expect(fits, f"images of {channels} channels", in_shape)
        shape = (self.W.shape[0], *_positions(self, self.window, in_shape))
        if self.b is not None:
            fits = self.b.shape in (shape[:1], shape)
            self.expect(fits, f"images that biases {self.b.shape} are for", in_shape)
        return shape


@dataclass(frozen=True, eq=False)
class Pooling(Stage):
    """The largest number, or the mean, of each window, channel by channel.

    Attributes
    ----------
    name : str
    kind : {"max", "average"}
        Padding is never the largest, and counts as zeros in the mean.
    window : vdcore.windows.Window
        With dilation 1.
    cover_all : bool
        Whether the last window may reach beyond the padded image, so that every pixel
        is within one. Only with "max".
    """

    name: str
    kind: str
    window: Window
    cover_all: bool = False

    def out_shape(self, in_shape: Shape) -> Shape:
        """The same channels, and the positions of the window."""
        self.expect(len(in_shape) == 3, "images", in_shape)
        positions = _positions(self, self.window, in_shape, cover_all=self.cover_all)
        for size, stride, pad, count, pixels in zip(
            self.window.size,
            self.window.stride,
            self.window.pad,
            positions,
            in_shape[1:],
            strict=True,
        ):
            meets = size > pad and (count - 1) * stride < pad + pixels
            self.expect(meets, "images that each of its windows meets", in_shape)
        return (in_shape[0], *positions)


@dataclass(frozen=True, eq=False)
class Flatten(Stage):
    """Images as feature vectors, row by row, channel by channel.

    Only needed where no affine layer follows, which takes images as they are.
    """

    name: str

    def out_shape(self, in_shape: Shape) -> Shape:
        """One vector."""
        return (math.prod(in_shape),)


def _positions(
    layer: Stage, window: Window, in_shape: Shape, *, cover_all: bool = False
) -> tuple[int, int]:
    _, height, width = in_shape
    positions = window.positions((height, width), cover_all=cover_all)
    rows, columns = window.extent
    expected = f"images, with padding, of {rows}x{columns} pixels or more"
    layer.expect(min(positions) >= 1, expected, in_shape)
    return positions
