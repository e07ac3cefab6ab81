"""How images lie in memory in the compiled forward of a sparse network.

A network is a list of operations; each reads images from one stretch of memory and
writes images to another. In a stretch they lie channel after channel: pixels side by
side, rows a fixed pitch apart, and each pixel holds the numbers of `lanes` examples.
Around an image lies what the next window needs there, zeros or, for the largest number,
minus infinity. What is to the right of a row is to the left of the next one too.

A window then meets a run of numbers at a fixed offset with each of its weights, see
:mod:`vdcore.backends.sparse.tiles`, which writes the rows of its result as far apart as
those that it reads. For a convolution with a stride the pixels are sorted first by
their places between two strides; within each sort it has none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vdcore.backends.sparse.images import Convolution, Pooling
from vdcore.backends.sparse.layer import Activation, Layer, Shape, Stage
from vdcore.backends.sparse.tiles import WIDTH
from vdcore.windows import Pair, Window

# Kinds of operations.
READ, WRITE, SPREAD, WEIGH, MAX, AVERAGE, ACTIVATE = range(7)

PAGE = 1024  # numbers; channels that far apart compete for the same cache lines


@dataclass
class Operation:
    """One step of a network, before it is known how images lie in memory.

    Attributes
    ----------
    kind : int
    shape : tuple of int
        Channels, height and width of what it puts out.
    layer : Stage or None
    window : Window or None
    activations : list of str
        What is applied to the result, one after the other.
    """

    kind: int
    shape: Shape
    layer: Any = None
    window: Window | None = None
    activations: list[str] = field(default_factory=list)

    @property
    def keeps_pitch(self) -> bool:
        """Whether the rows of the output lie as far apart as those of the input."""
        return self.kind == WEIGH and self.window is not None


def operations(layers: Sequence[Stage], in_shape: Shape) -> list[Operation]:
    """The steps of a network, from reading its input to writing its output.

    A softmax at the end is an activation of the last.
    """
    found = [Operation(READ, _as_image(in_shape))]
    shape = in_shape
    for layer in layers:
        shape = layer.out_shape(shape)
        if isinstance(layer, Convolution):
            if layer.window.stride != (1, 1):
                size = _sorted_size(layer.window, (shape[1], shape[2]))
                channels = found[-1].shape[0]
                found.append(Operation(SPREAD, (channels, *size), window=layer.window))
            found.append(Operation(WEIGH, shape, layer, layer.window))
        elif isinstance(layer, Layer):
            found.append(Operation(WEIGH, _as_image(shape), layer))
        elif isinstance(layer, Pooling):
            kind = MAX if layer.kind == "max" else AVERAGE
            found.append(Operation(kind, shape, layer, layer.window))
        if isinstance(layer, Convolution | Layer | Pooling | Activation):
            found[-1].activations.append(layer.activation)
    found.append(Operation(WRITE, found[-1].shape))
    for operation in found:
        operation.activations = [a for a in operation.activations if a != "identity"]
    if found[-2].activations[-1:] == ["softmax"]:
        found[-1].activations = [found[-2].activations.pop()]
    return found


def _as_image(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _sorted_size(window: Window, positions: Pair) -> Pair:
    """Rows and columns of the image that one sort of pixels makes."""
    rows, columns = (
        count + (extent - 1) // stride
        for count, extent, stride in zip(
            positions, window.extent, window.stride, strict=True
        )
    )
    return rows, columns


class Images(NamedTuple):
    """How the images of one stretch lie, counted in pixels.

    Attributes
    ----------
    shape : tuple of int
        Channels, height, width.
    start : int
        How much lies before the first pixel.
    pitch : int
        From one row to the next.
    size : int
        Of a channel, with what lies before and after the image.
    pooled : bool
        Whether a pooling puts them out.
    """

    shape: Shape
    start: int
    pitch: int
    size: int
    pooled: bool

    @property
    def run(self) -> int:
        """From the first pixel to the last."""
        return (self.shape[1] - 1) * self.pitch + self.shape[2]

    def plane(self, lanes: int) -> int:
        """Numbers in a channel, whole vectors of them."""
        # A pooling's last vector may begin late in the last row.
        numbers = self.start * lanes + WIDTH * (vectors(self.run, lanes) + self.pooled)
        plane = WIDTH * vectors(max(numbers, self.size * lanes), 1)
        return plane + WIDTH if plane % PAGE == 0 else plane


def vectors(pixels: int, lanes: int) -> int:
    """How many of them hold so many pixels."""
    return -(-pixels * lanes // WIDTH)


def layouts(found: Sequence[Operation]) -> list[Images]:
    """How the images lie that each operation but the last puts out."""
    writers, readers = found[:-1], found[1:]
    margins = [_margins(*pair) for pair in zip(writers, readers, strict=True)]
    pitches = [
        writer.shape[2] + gap
        for writer, (_, _, _, gap) in zip(writers, margins, strict=True)
    ]
    for k in range(len(pitches) - 1, 0, -1):
        if writers[k].keeps_pitch:
            pitches[k - 1] = max(pitches[k - 1], pitches[k])
    for k in range(1, len(pitches)):
        if writers[k].keeps_pitch:
            pitches[k] = pitches[k - 1]
    images = []
    for writer, (above, left, below, _), pitch in zip(
        writers, margins, pitches, strict=True
    ):
        start = above * pitch + left
        size = start + (writer.shape[1] + below) * pitch
        if writer.kind == SPREAD and writer.window is not None:
            size *= math.prod(writer.window.stride)
        pooled = writer.kind in (MAX, AVERAGE)
        images.append(Images(writer.shape, start, pitch, size, pooled))
    return images


def _margins(writer: Operation, reader: Operation) -> tuple[int, int, int, int]:
    """How far windows reach above, to the left, and below; columns between two rows."""
    window = reader.window
    if window is None or SPREAD in (writer.kind, reader.kind):
        return 0, 0, 0, 0
    _, height, width = writer.shape
    _, out_height, out_width = reader.shape
    (above, left), (rows, columns) = window.pad, window.extent
    below = max(0, (out_height - 1) * window.stride[0] + rows - above - height)
    right = max(0, (out_width - 1) * window.stride[1] + columns - left - width)
    return above, left, below, max(left, right)
