"""The program that compiled code runs of a sparse convolutional network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from vdcore.backends.sparse.image_layout import (
    ACTIVATE,
    AVERAGE,
    MAX,
    READ,
    SPREAD,
    WEIGH,
    WRITE,
    Images,
    Operation,
    layouts,
    vectors,
)
from vdcore.backends.sparse.layer import ACTIVATIONS
from vdcore.backends.sparse.tiles import TILES, WIDTH
from vdcore.windows import Window

# Work for a part that another thread takes, of some 2 us: vectors times weights, and
# numbers that are copied.
PART_WEIGHTS, PART_NUMBERS = 5_000, 20_000
SURPLUS = 4  # parts for each thread: one that starts late leaves more to others
TILE_COST = 2.5  # vectors that take as long as the rest of what a weight needs
ROW_COST = 4  # weights that take as long as the rest of what a channel needs

FIELDS = (
    *("kind", "activation", "channels"),
    *("parts", "shared"),  # whether the work is worth another thread's while
    # Where the images lie. All but heights and widths count numbers.
    *("in_plane", "in_start", "in_pitch", "in_height", "in_width"),
    *("out_plane", "out_start", "out_pitch", "out_height", "out_width"),
    "lowest",  # whether minus infinity lies around the images put out
    # Of weights: vectors in a channel and in a tile; where its rows begin in the arrays
    # of the program, and how its channels are divided.
    *("vectors", "tile", "row", "keep", "splits", "pieces"),
    *("bias", "bias_pitch", "bias_step"),
    # Of windows.
    *("rows", "columns", "row_stride", "column_stride", "row_pad", "column_pad"),
)
STEP = numpy.dtype([(name, numpy.int64) for name in FIELDS])


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
    weights = _Weights(lanes, threads)
    steps: list[dict[str, int]] = []
    for number, operation in enumerate(found):
        step = {"kind": operation.kind, "channels": operation.shape[0]}
        if operation.window is not None:
            step |= _window(operation.window)
        if number > 0:
            step |= _side("in", images[number - 1], lanes)
        if operation.kind != WRITE:
            step |= _side("out", images[number], lanes)
            step["lowest"] = found[number + 1].kind == MAX
        activations = list(operation.activations)
        # The input is read by the first operation with weights left, or before it.
        first = all(each.kind in (READ, SPREAD) for each in found[:number])
        if operation.kind == READ:
            step["in_plane"] = math.prod(operation.shape)
        if operation.kind in (READ, SPREAD) and first:
            step["channels"] = len(read)
        if operation.kind == WRITE:
            step["out_plane"] = math.prod(operation.shape)
        if operation.kind == WEIGH:
            step |= weights.add(operation, images[number - 1], read if first else None)
        else:
            step |= _shares(step, threads)
        if activations and (
            operation.kind == WRITE
            or (operation.kind == WEIGH and activations[0] == "relu")
        ):
            step["activation"] = ACTIVATIONS.index(activations.pop(0))
        steps.append(step)
        for activation in activations:
            code = ACTIVATIONS.index(activation)
            extra = {"kind": ACTIVATE, "activation": code, "channels": step["channels"]}
            extra |= _side("in", images[number], lanes)
            steps.append(extra | _shares(extra, threads))
    size = max(image.shape[0] * image.plane(lanes) for image in images)
    # A run may begin at the last number, and nobody reads what it meets after that.
    size += WIDTH * (1 + max(step.get("vectors", 0) for step in steps))
    return weights.program(steps, read), size


def _side(side: str, images: Images, lanes: int) -> dict[str, int]:
    _, height, width = images.shape
    numbers = {
        "plane": images.plane(lanes),
        "start": images.start * lanes,
        "pitch": images.pitch * lanes,
        "height": height,
        "width": width,
    }
    return {f"{side}_{name}": number for name, number in numbers.items()}


def _window(window: Window) -> dict[str, int]:
    names = ("rows", "columns", "row_stride", "column_stride", "row_pad", "column_pad")
    numbers = (*window.size, *window.stride, *window.pad)
    return dict(zip(names, numbers, strict=True))


def _shares(step: dict[str, int], threads: int) -> dict[str, int]:
    """How the work of a step without weights is divided."""
    side = "in" if step["kind"] in (WRITE, MAX, AVERAGE, ACTIVATE) else "out"
    numbers = step["channels"] * step[f"{side}_plane"]
    parts = min(_parts(numbers / PART_NUMBERS, threads), step["channels"])
    return {"parts": max(1, parts), "shared": parts > 1}


def _parts(wanted: float, threads: int) -> int:
    return max(1, min(int(wanted), SURPLUS * threads)) if threads > 1 else 1


def _channels_read(found: Sequence[Operation]) -> numpy.ndarray:
    """The channels of the input that a weight is left for."""
    channels, height, width = found[0].shape
    reader = found[2] if found[1].kind == SPREAD else found[1]
    if reader.kind != WEIGH or found[0].activations:
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
        self.indices: list[numpy.ndarray] = []
        self.values: list[numpy.ndarray] = []
        self.biases: list[numpy.ndarray] = []
        self.keep: list[numpy.ndarray] = []
        self.splits: list[numpy.ndarray] = []

    def add(
        self, operation: Operation, source: Images, read: numpy.ndarray | None
    ) -> dict[str, int]:
        """Add those of one layer; the fields of its step that say where they are."""
        W, b = operation.layer.W, operation.layer.b
        channels, height, width = operation.shape
        pitch = width if operation.window is None else source.pitch
        run = (height - 1) * pitch + width
        count = vectors(run, self.lanes)
        tile, _ = tiling(count)
        step = {
            "vectors": count,
            "tile": tile,
            "row": _length(self.indptr) - 1,
            "keep": _length(self.keep),
            "bias": _length(self.biases),
            "bias_pitch": WIDTH if b.ndim == 1 else count * WIDTH,
            "bias_step": 0 if b.ndim == 1 else WIDTH,
            "splits": _length(self.splits),
        }
        rows = numpy.diff(W.indptr).astype(numpy.int64)
        self.indptr.append(_length(self.values) + numpy.cumsum(rows))
        self.indices.append(self._offsets(operation, source, W.indices, read))
        self.values.append(W.data)

        inside = numpy.zeros(count * WIDTH // self.lanes, bool)
        inside[:run] = numpy.arange(run) % pitch < width
        self.keep.append(numpy.repeat(inside, self.lanes))
        if b.ndim == 1:
            self.biases.append(numpy.repeat(b, WIDTH))
        else:
            maps = numpy.zeros((channels, len(inside)), numpy.float32)
            maps[:, inside] = b.reshape(channels, height * width)
            self.biases.append(numpy.repeat(maps, self.lanes, axis=1).ravel())

        tiles = -(-count // tile)
        wanted = _parts(len(W.data) * count / PART_WEIGHTS, self.threads)
        pieces = max(1, min(-(-wanted // tiles), channels))
        work = numpy.cumsum(rows + ROW_COST)
        inner = numpy.linspace(0, work[-1] if channels else 0, pieces + 1)[1:-1]
        bounds = [0, *numpy.searchsorted(work, inner), channels]
        self.splits.append(numpy.asarray(bounds))
        return step | {
            "pieces": pieces,
            "parts": tiles * pieces,
            "shared": wanted > 1,
        }

    def _offsets(
        self,
        operation: Operation,
        source: Images,
        indices: numpy.ndarray,
        read: numpy.ndarray | None,
    ) -> numpy.ndarray:
        """Where the run begins that each weight meets, in numbers."""
        _, height, width = source.shape
        indices = indices.astype(numpy.int64)
        if operation.window is None:
            channel, pixel = numpy.divmod(indices, height * width)
            row, column = numpy.divmod(pixel, width)
            places = source.start + row * source.pitch + column
        else:
            (_, columns), stride, _, dilate = operation.window
            channel, element = numpy.divmod(indices, math.prod(operation.window.size))
            row, column = numpy.divmod(element, columns)
            row, row_sort = numpy.divmod(row * dilate[0], stride[0])
            column, column_sort = numpy.divmod(column * dilate[1], stride[1])
            sort = row_sort * stride[1] + column_sort
            places = (sort * height + row) * source.pitch + column
        if read is not None:
            channel = numpy.searchsorted(read, channel)
        return channel * source.plane(self.lanes) + places * self.lanes

    def program(self, steps: list[dict[str, int]], read: numpy.ndarray) -> Program:
        """All that was added, with the steps."""
        records = [tuple(step.get(name, 0) for name in FIELDS) for step in steps]
        return Program(
            numpy.array(records, STEP),
            _joined(self.indptr, numpy.int64),
            _joined(self.indices, numpy.uint32),
            _joined(self.values, numpy.float32),
            _joined(self.biases, numpy.float32),
            _joined(self.keep, numpy.float32),
            read,
            _joined(self.splits, numpy.int64),
        )


def _length(arrays: Sequence[numpy.ndarray]) -> int:
    return sum(map(len, arrays))


def _joined(arrays: Sequence[numpy.ndarray], dtype: Any) -> numpy.ndarray:
    converted = [array.astype(dtype) for array in arrays]
    return numpy.concatenate([numpy.zeros(0, dtype), *converted])
