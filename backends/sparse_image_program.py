"""Lay out a sparse convolutional network as the program that compiled code runs.

Every step reads images from one stretch of memory and writes images to another. All
images of a stretch lie alike, channel after channel: pixels side by side, rows a fixed
pitch apart, and each pixel holds the numbers of `lanes` examples. Zeros lie around them
as far as the next window reaches; those to the right of a row are those to the left of
the next one. A window then meets a run of numbers at a fixed offset with each of its
weights, see :mod:`vdcore.backends.sparse_tiles`; what is computed between two rows of
the result is overwritten with zeros.

A convolution with a stride is made one without: a step before it sorts the pixels by
their places between two strides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy

from vdcore.backends.sparse_images import Convolution, Pooling
from vdcore.backends.sparse_layer import (
    ACTIVATIONS,
    Activation,
    Layer,
    Shape,
    Stage,
)
from vdcore.backends.sparse_tiles import TILES, WIDTH
from vdcore.windows import Pair, Window

# Kinds of steps.
READ, WRITE, SPREAD, WEIGH, MAX, AVERAGE, ACTIVATE = range(7)

PAGE = 1024  # numbers; channels that far apart compete for the same cache lines
# Work for a part that another thread takes, of some 2 us: vectors times weights, and
# numbers that are copied.
PART_WEIGHTS, PART_NUMBERS = 5_000, 20_000
SURPLUS = 4  # parts for each thread: one that starts late leaves more to others
ROW_COST = 4  # weights that take as long as the rest of what a channel needs
TILE_COST = 2.5  # vectors that take as long as the rest of what a weight needs

STEP = numpy.dtype(
    [
        (name, numpy.int64)
        for name in (
            *("kind", "activation", "channels", "parts", "shared"),
            # Where the images lie. All but heights and widths count numbers.
            *("in_plane", "in_start", "in_pitch", "in_height", "in_width"),
            *("out_plane", "out_start", "out_pitch", "out_height", "out_width"),
            # Of weights: vectors in a channel and in a tile, first row, piece, number.
            *("vectors", "tile", "row", "splits", "pieces", "keep"),
            *("bias", "bias_pitch", "bias_step"),
            # Of windows.
            *("rows", "columns", "row_stride", "column_stride"),
            *("row_pad", "column_pad"),
            "lowest",  # whether the window is one of the largest number
        )
    ]
)


class Program(NamedTuple):
    """What compiled code needs of a network.

    Attributes
    ----------
    steps : array of STEP
    indptr, indices, values : array
        Weights of all channels of all layers, row by row: how far from the start of
        the memory the run lies that a weight meets first.
    biases : array of float32
        One vector a channel, or one for each of its vectors.
    keep : array of float32
        0 where a run lies between the rows of an image.
    channels : array of int64
        The channels of the input that are read.
    splits : array of int64
        Channels at which pieces of a step's work start and end. A part is one of
        them, of one tile.
    """

    steps: numpy.ndarray
    indptr: numpy.ndarray
    indices: numpy.ndarray
    values: numpy.ndarray
    biases: numpy.ndarray
    keep: numpy.ndarray
    channels: numpy.ndarray
    splits: numpy.ndarray


@dataclass
class Operation:
    """One step of a network, before it is known how images lie in memory.

    Attributes
    ----------
    kind : int
    layer : Stage or None
    shape : tuple of int
        Channels, height and width of what it puts out.
    window : Window or None
    activations : list of str
        What is applied to the result, one after the other.
    """

    kind: int
    layer: Any
    shape: Shape
    window: Window | None = None
    activations: list[str] = field(default_factory=list)

    @property
    def follows_rows(self) -> bool:
        """Whether the rows of the output lie as far apart as those of the input."""
        return self.kind == WEIGH and self.window is not None


def operations(layers: Sequence[Stage], in_shape: Shape) -> list[Operation]:
    """The steps of a network, from reading its input to writing its output."""
    found = [Operation(READ, None, _as_image(in_shape))]
    shape = in_shape
    for layer in layers:
        shape = layer.out_shape(shape)
        image, activation = _as_image(shape), layer.activation
        if isinstance(layer, Convolution):
            window = layer.window
            if window.stride != (1, 1):
                phases = _phases(window, (image[1], image[2]))
                spread = (found[-1].shape[0], *phases)
                found.append(Operation(SPREAD, None, spread, window))
            found.append(Operation(WEIGH, layer, image, window, [activation]))
        elif isinstance(layer, Layer):
            found.append(Operation(WEIGH, layer, image, None, [activation]))
        elif isinstance(layer, Pooling):
            kind = {"max": MAX, "average": AVERAGE}[layer.kind]
            found.append(Operation(kind, layer, image, layer.window, [activation]))
        elif isinstance(layer, Activation):
            found[-1].activations.append(activation)
    found.append(Operation(WRITE, None, found[-1].shape))
    for operation in found:
        operation.activations = [a for a in operation.activations if a != "identity"]
    if found[-2].activations[-1:] == ["softmax"]:
        found[-1].activations = [found[-2].activations.pop()]
    return found


def _as_image(shape: Shape) -> Shape:
    return shape if len(shape) == 3 else (math.prod(shape), 1, 1)


def _phases(window: Window, positions: Pair) -> Pair:
    """Rows and columns of the images that one sort of pixels makes."""
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
        The first pixel; zeros lie before it.
    pitch : int
        From one row to the next.
    size : int
        Of a channel, with the zeros before and after the image.
    pooled : bool
        Whether a pooling puts them out.
    """

    shape: Shape
    start: int
    pitch: int
    size: int
    pooled: bool

    def plane(self, lanes: int) -> int:
        """Numbers in a channel, whole vectors of them."""
        _, height, width = self.shape
        run = (height - 1) * self.pitch + width
        # A pooling's last vector may begin late in the last row.
        numbers = self.start * lanes + WIDTH * (vectors(run, lanes) + self.pooled)
        plane = WIDTH * vectors(max(numbers, self.size * lanes), 1)
        return plane + WIDTH if plane % PAGE == 0 else plane


def vectors(pixels: int, lanes: int) -> int:
    """How many of them hold so many pixels."""
    return -(-pixels * lanes // WIDTH)


def layouts(found: Sequence[Operation]) -> list[Images]:
    """How the images lie that each operation but the last puts out."""
    followers = found[1:]
    margins = [
        _margins(operation, follower)
        for operation, follower in zip(found, followers, strict=False)
    ]
    pitches = [
        operation.shape[2] + gap
        for operation, (_, _, _, gap) in zip(found, margins, strict=False)
    ]
    for k in range(len(pitches) - 2, -1, -1):
        if followers[k].follows_rows:
            pitches[k] = max(pitches[k], pitches[k + 1])
    for k in range(len(pitches) - 1):
        if followers[k].follows_rows:
            pitches[k + 1] = pitches[k]
    images = []
    for operation, (top, left, below, _), pitch in zip(
        found, margins, pitches, strict=False
    ):
        height = operation.shape[1]
        start = top * pitch + left
        size = start + (height + below) * pitch
        if operation.kind == SPREAD and operation.window is not None:
            size = math.prod(operation.window.stride) * height * pitch
        pooled = operation.kind in (MAX, AVERAGE)
        images.append(Images(operation.shape, start, pitch, size, pooled))
    return images


def _margins(operation: Operation, follower: Operation) -> tuple[int, int, int, int]:
    """How far windows reach above, to the left, and below; columns between two rows."""
    window = follower.window
    if window is None or SPREAD in (operation.kind, follower.kind):
        return 0, 0, 0, 0
    _, height, width = operation.shape
    _, out_height, out_width = follower.shape
    (top, left), (rows, columns) = window.pad, window.extent
    below = max(0, (out_height - 1) * window.stride[0] + rows - top - height)
    right = max(0, (out_width - 1) * window.stride[1] + columns - left - width)
    return top, left, below, max(left, right)


def build(found: Sequence[Operation], lanes: int, threads: int) -> tuple[Program, int]:
    """The program of a network for so many examples at a time.

    Parameters
    ----------
    found : sequence of Operation
    lanes : int
        A power of two up to WIDTH.
    threads : int
        How many may share the work of a step.

    Returns
    -------
    program : Program
    size : int
        Numbers in each of the two stretches of memory.
    """
    images = layouts(found)
    read = _channels_read(found)
    most = len(found) + sum(len(operation.activations) for operation in found)
    steps = numpy.zeros(most, STEP)
    weights = _Weights(lanes, threads)
    k = 0
    for number, operation in enumerate(found):
        step = steps[k]
        step["kind"], step["channels"] = operation.kind, operation.shape[0]
        if number > 0:
            _describe(step, "in", images[number - 1], lanes)
        if operation.kind == READ:
            step["channels"], step["in_plane"] = len(read), math.prod(operation.shape)
        if operation.kind == SPREAD and number == 1:
            step["channels"] = len(read)
        if operation.kind == WRITE:
            step["activation"] = _code(operation.activations)
            step["out_plane"] = math.prod(operation.shape)
        else:
            _describe(step, "out", images[number], lanes)
            step["lowest"] = found[number + 1].kind == MAX
        if isinstance(operation.window, Window):
            _describe_window(step, operation.window)
        activations = list(operation.activations)
        if operation.kind == WEIGH:
            source = images[number - 1]
            if activations[:1] == ["relu"]:
                step["activation"] = _code(activations)
                activations.pop(0)
            first = number == 1 or (number == 2 and found[1].kind == SPREAD)
            weights.add(step, operation, source, read if first else None)
        else:
            side = "in" if operation.kind in (WRITE, MAX, AVERAGE) else "out"
            numbers = step["channels"] * step[f"{side}_plane"]
            _share(step, numbers, threads)
        k += 1
        if operation.kind == WRITE:
            continue
        for activation in activations:
            extra = steps[k]
            extra["kind"], extra["activation"] = ACTIVATE, _code([activation])
            extra["channels"] = step["channels"]
            _describe(extra, "in", images[number], lanes)
            numbers = extra["channels"] * extra["in_plane"]
            _share(extra, numbers, threads)
            k += 1
    size = max(image.shape[0] * image.plane(lanes) for image in images)
    # A run may begin at the last number, and nobody reads what it meets after that.
    size += WIDTH * (1 + int(steps["vectors"].max()))
    return weights.program(steps[:k], read), size


def _code(activations: list[str]) -> int:
    return ACTIVATIONS.index(activations[0]) if activations else 0


def _parts(wanted: float, threads: int) -> int:
    return max(1, min(int(wanted), SURPLUS * threads)) if threads > 1 else 1


def _share(step: Any, numbers: int, threads: int) -> None:
    parts = min(_parts(numbers / PART_NUMBERS, threads), int(step["channels"]))
    step["parts"], step["shared"] = max(1, parts), parts > 1


def _describe(step: Any, side: str, images: Images, lanes: int) -> None:
    _, step[f"{side}_height"], step[f"{side}_width"] = images.shape
    step[f"{side}_plane"] = images.plane(lanes)
    step[f"{side}_start"] = images.start * lanes
    step[f"{side}_pitch"] = images.pitch * lanes


def _describe_window(step: Any, window: Window) -> None:
    step["rows"], step["columns"] = window.size
    step["row_stride"], step["column_stride"] = window.stride
    step["row_pad"], step["column_pad"] = window.pad


def _channels_read(found: Sequence[Operation]) -> numpy.ndarray:
    """The channels of the input that a weight is left for."""
    channels, height, width = found[0].shape
    reader = found[2] if found[1].kind == SPREAD else found[1]
    if reader.kind != WEIGH:
        return numpy.arange(channels)
    size = height * width if reader.window is None else math.prod(reader.window.size)
    return numpy.unique(reader.layer.W.indices // size).astype(numpy.int64)


def tiling(count: int) -> tuple[int, float]:
    """The vectors in a tile that take the least time for so many, and that time.

    The time is that of one weight, in units of what it takes for a vector.
    """
    fitting = [tile for tile in TILES if tile <= count]
    times = [-(-count // tile) * (tile + TILE_COST) for tile in fitting]
    least = min(range(len(times)), key=times.__getitem__)
    return fitting[least], times[least]


class _Weights:
    """Collects the weights of all layers."""

    def __init__(self, lanes: int, threads: int) -> None:
        self.lanes, self.threads = lanes, threads
        self.indptr = [numpy.zeros(1, numpy.int64)]
        self.indices: list[numpy.ndarray] = [numpy.zeros(0, numpy.uint32)]
        self.values: list[numpy.ndarray] = [numpy.zeros(0, numpy.float32)]
        self.biases: list[numpy.ndarray] = []
        self.keep: list[numpy.ndarray] = []
        self.splits: list[numpy.ndarray] = []

    def add(
        self,
        step: Any,
        operation: Operation,
        source: Images,
        read: numpy.ndarray | None,
    ) -> None:
        W, b = operation.layer.W, operation.layer.b
        channels, height, width = operation.shape
        pitch = source.pitch if operation.window is not None else width
        run = (height - 1) * pitch + width
        count = vectors(run, self.lanes)
        offsets = self._offsets(operation, source, W.indices, read)
        rows = numpy.diff(W.indptr).astype(numpy.int64)
        step["vectors"] = count
        step["tile"], _ = tiling(count)
        step["row"] = sum(map(len, self.indptr)) - 1
        step["keep"] = sum(map(len, self.keep))
        step["bias"] = sum(map(len, self.biases))
        step["splits"] = sum(map(len, self.splits))
        self.indptr.append(self.indptr[-1][-1] + numpy.cumsum(rows))
        if not channels:
            self.indptr.pop()
        self.indices.append(offsets.astype(numpy.uint32))
        self.values.append(W.data)

        place = numpy.zeros(count * WIDTH // self.lanes, numpy.float32)
        pixels = numpy.arange(run)
        place[:run] = pixels % pitch < width
        self.keep.append(numpy.repeat(place, self.lanes))
        if b.ndim == 1:
            step["bias_pitch"], step["bias_step"] = WIDTH, 0
            self.biases.append(numpy.repeat(b, WIDTH))
        else:
            step["bias_pitch"], step["bias_step"] = count * WIDTH, WIDTH
            maps = numpy.zeros((channels, len(place)), numpy.float32)
            maps[:, :run][:, place[:run] > 0] = b.reshape(channels, -1)
            self.biases.append(numpy.repeat(maps, self.lanes, axis=1).ravel())

        tiles = -(-count // int(step["tile"]))
        wanted = _parts(len(offsets) * count / PART_WEIGHTS, self.threads)
        pieces = max(1, min(-(-wanted // tiles), channels))
        step["pieces"], step["parts"] = pieces, tiles * pieces
        step["shared"] = wanted > 1
        work = numpy.cumsum(rows + ROW_COST)
        bounds = numpy.linspace(0, work[-1] if channels else 0, pieces + 1)[1:-1]
        inner = numpy.searchsorted(work, bounds)
        self.splits.append(numpy.concatenate([[0], inner, [channels]]))

    def _offsets(
        self,
        operation: Operation,
        source: Images,
        indices: numpy.ndarray,
        read: numpy.ndarray | None,
    ) -> numpy.ndarray:
        """Where the run begins that each weight meets, in numbers."""
        if operation.window is None:
            _, height, width = source.shape
            channel, pixel = numpy.divmod(indices.astype(numpy.int64), height * width)
            row, column = numpy.divmod(pixel, width)
            places = source.start + row * source.pitch + column
        else:
            size, dilate = operation.window.size, operation.window.dilate
            stride = operation.window.stride
            channel, element = numpy.divmod(
                indices.astype(numpy.int64), math.prod(size)
            )
            row, column = numpy.divmod(element, size[1])
            row, row_sort = numpy.divmod(row * dilate[0], stride[0])
            column, column_sort = numpy.divmod(column * dilate[1], stride[1])
            sort = row_sort * stride[1] + column_sort
            places = (sort * source.shape[1] + row) * source.pitch + column
        if read is not None:
            channel = numpy.searchsorted(read, channel)
        return channel * source.plane(self.lanes) + places * self.lanes

    def program(self, steps: numpy.ndarray, read: numpy.ndarray) -> Program:
        def joined(parts: list[numpy.ndarray], dtype: Any) -> numpy.ndarray:
            return numpy.concatenate([numpy.zeros(0, dtype), *parts]).astype(dtype)

        return Program(
            steps,
            joined(self.indptr, numpy.int64),
            joined(self.indices, numpy.uint32),
            joined(self.values, numpy.float32),
            joined(self.biases, numpy.float32),
            joined(self.keep, numpy.float32),
            read,
            joined(self.splits, numpy.int64),
        )
