"""Convolutions as products of matrices, of what each position of the window meets.

An engine of convolutions has the three functions :func:`products`,
:func:`weight_products` and :func:`input_gradient`. Images lie with their channels last,
shape (batch, height, width, channels). Weights have shape (count, outputs, rows,
columns, channels / groups), with a count of 1 or 2: the k-th of them meet the k-th
power of the images. What they yield has shape (count, batch, out_height, out_width,
outputs), and so have the slopes, its gradient.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import cupy
import numpy

from vdcore.backends.cuda.arguments import DIVISOR, divisor, structure
from vdcore.backends.cuda.module import Module, blocks_for
from vdcore.backends.cuda.products import multiply
from vdcore.windows import Window

COLUMNS_LIMIT = 2**30  # bytes of columns at a time, if examples are not larger
TILE = 64  # rows and columns of a product that a block of cuBLAS computes, about
TILES = 256  # blocks that keep a large GPU busy
LEAST_DEPTH = 512  # of a part of a product: shorter ones cost more than they gain

_GEOMETRY = numpy.dtype(
    [
        (name, numpy.int32)
        for name in (
            "height width out_height out_width rows columns stride_y stride_x pad_y "
            "pad_x dilate_y dilate_x channels depth"
        ).split()
    ]
    + [
        (name, DIVISOR)
        for name in (
            "packs group_depth group_channels window_columns positions out_columns "
            "channel_packs image_columns image_rows steps_y steps_x"
        ).split()
    ],
    align=True,
)
_kernels = Module("unfolding")


class Problem(NamedTuple):
    """What one convolution's columns depend on.

    Attributes
    ----------
    shape : tuple of int
        Of the images, (batch, height, width, channels).
    window : Window
    groups : int
    count : int
        How many powers of the images there are.
    """

    shape: tuple[int, ...]
    window: Window
    groups: int
    powers: int

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.window.positions((self.shape[1], self.shape[2]))

    @property
    def depth(self) -> int:
        """Numbers that one position meets, of all groups."""
        return math.prod(self.window.size) * self.shape[3]

    @property
    def columns_of_example(self) -> int:
        """Numbers in the columns of one example, of one power."""
        return math.prod(self.positions) * self.depth

    @property
    def are_images_columns(self) -> bool:
        """Whether the images, as they lie, are the columns."""
        plain = Window((1, 1), dilate=self.window.dilate)
        return self.powers == 1 and self.window == plain

    def parts(self) -> list[slice]:
        """Examples whose columns are made at a time: of the same number if possible."""
        batch, count = self.shape[0], 1
        if not self.are_images_columns:
            size = 4 * self.powers * self.columns_of_example
            least = -(-batch // max(1, COLUMNS_LIMIT // size))
            counts = range(least, 2 * least + 1)
            count = next((n for n in counts if batch % n == 0), least)
        length = -(-batch // count)
        return [
            slice(start, min(start + length, batch))
            for start in range(0, batch, length)
        ]

    def splits(self, outputs: int) -> int:
        """Into how many parts of the same size to divide a product by its depth."""
        if self.groups > 1:
            return 1
        tiles = self.powers * -(-outputs // TILE) * -(-self.depth // TILE)
        lengths = [part.stop - part.start for part in self.parts()]
        depth = math.gcd(*lengths) * math.prod(self.positions)
        most = min(-(-TILES // tiles), depth // LEAST_DEPTH)
        return next(n for n in range(max(most, 1), 0, -1) if depth % n == 0)


def products(
    x: cupy.ndarray, weights: cupy.ndarray, window: Window, groups: int
) -> cupy.ndarray:
    """Images convolved with weights."""
    powers, outputs = weights.shape[:2]
    problem = Problem(x.shape, window, groups, powers)
    result = cupy.empty((powers, len(x), *problem.positions, outputs), x.dtype)
    for part in problem.parts():
        columns = _columns(x[part], problem)
        values = _rows(result, problem, part)
        for a, b, out in _stacks(groups, columns, weights[:, None], values):
            multiply(a, b.transpose(0, 2, 1), out)
    return result


def weight_products(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    shape: tuple[int, ...],
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """Gradient by weights of this shape, (outputs, rows, columns, channels of a group).

    Returns
    -------
    array, shape (count, splits, *shape)
        Parts that are to be summed: a product of few rows and columns and of great
        depth keeps a GPU busy only if it is divided by depth.
    """
    problem = Problem(x.shape, window, groups, len(slopes))
    splits = problem.splits(shape[0])
    result = cupy.empty((len(slopes), splits, *shape), x.dtype)
    for part in problem.parts():
        columns = _columns(x[part], problem)
        values = _rows(slopes, problem, part)
        for b, out, a in _stacks(groups, columns, result, values):
            multiply(a.transpose(0, 2, 1), b, out, accumulate=part.start > 0)
    return result


def input_gradient(
    x: cupy.ndarray,
    slopes: cupy.ndarray,
    weights: cupy.ndarray,
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """Gradient by images: that by themselves, and 2 x times that by their squares."""
    problem = Problem(x.shape, window, groups, len(slopes))
    gx = cupy.empty_like(x)
    for part in problem.parts():
        if problem.are_images_columns:
            columns = _as_columns(gx[part])
        else:
            columns = _empty_columns(gx[part], problem)
        values = _rows(slopes, problem, part)
        for out, b, a in _stacks(groups, columns, weights[:, None], values):
            multiply(a, b, out)
        if not problem.are_images_columns:
            _fold(columns, x[part], problem, gx[part])
    return gx


def _rows(values: cupy.ndarray, problem: Problem, part: slice) -> cupy.ndarray:
    """Of these examples, shape (powers, positions, outputs)."""
    length = math.prod(problem.positions)
    matrices = values.reshape(len(values), -1, values.shape[-1])
    return matrices[:, part.start * length : part.stop * length]


def _stacks(
    groups: int, columns: cupy.ndarray, weights: cupy.ndarray, values: cupy.ndarray
) -> Iterator[tuple[cupy.ndarray, cupy.ndarray, cupy.ndarray]]:
    """Views that are stacks of matrices: as few stacks as can be.

    Parameters
    ----------
    groups : int
    columns : array, shape (powers, positions, depth)
    weights : array, shape (powers, splits, outputs, ...)
        With splits, the positions are divided into so many runs.
    values : array, shape (powers, positions, outputs)
    """
    powers, splits, outputs = weights.shape[:3]
    if groups == 1:
        whole = values.flags.c_contiguous
        step = powers if whole else 1
        for k in range(0, powers, step):
            yield tuple(
                array[k : k + step].reshape(step * splits, -1, size)
                for array, size in (
                    (columns, columns.shape[2]),
                    (weights, columns.shape[2]),
                    (values, outputs),
                )
            )
        return
    for k in range(powers):
        matrices = weights[k].reshape(groups, outputs // groups, -1)
        yield _grouped(columns[k], groups), matrices, _grouped(values[k], groups)


def _grouped(matrix: cupy.ndarray, groups: int) -> cupy.ndarray:
    """Runs of columns as a stack of matrices."""
    return matrix.reshape(len(matrix), groups, -1).transpose(1, 0, 2)


def _as_columns(x: cupy.ndarray) -> cupy.ndarray:
    """Images of which each pixel is what one position meets."""
    return x.reshape(1, -1, x.shape[-1])


def _empty_columns(x: cupy.ndarray, problem: Problem) -> cupy.ndarray:
    positions = len(x) * math.prod(problem.positions)
    return cupy.empty((problem.powers, positions, problem.depth), x.dtype)


def _columns(x: cupy.ndarray, problem: Problem) -> cupy.ndarray:
    """Shape (powers, positions, depth)."""
    if problem.are_images_columns:
        return _as_columns(x)
    columns = _empty_columns(x, problem)
    squares = columns[1] if problem.powers == 2 else None
    count = _channels_at_a_time(x, problem)
    packs = columns[0].size // count
    geometry = _geometry(problem, count)
    arguments = (x, geometry, packs, columns[0], squares)
    _kernels.launch(f"unfold_{count}", blocks_for(packs), *arguments)
    return columns


def _fold(
    columns: cupy.ndarray, x: cupy.ndarray, problem: Problem, gx: cupy.ndarray
) -> None:
    squares = columns[1] if problem.powers == 2 else None
    count = _channels_at_a_time(x, problem)
    packs = x.size // count
    geometry = _geometry(problem, count)
    arguments = (columns[0], squares, x, geometry, packs, gx)
    _kernels.launch(f"fold_{count}", blocks_for(packs), *arguments)


def _channels_at_a_time(x: cupy.ndarray, problem: Problem) -> int:
    channels = problem.shape[3] // problem.groups
    return 4 if channels % 4 == 0 and x.data.ptr % 16 == 0 else 1


@functools.lru_cache(maxsize=1024)
def _geometry(problem: Problem, count: int) -> numpy.ndarray:
    _, height, width, channels = problem.shape
    size, stride, pad, dilate = problem.window
    positions, depth = problem.positions, problem.depth
    divisors = (
        depth // count, depth // problem.groups, channels // problem.groups, size[1],
        math.prod(positions), positions[1], channels // count, width, height, *stride,
    )  # fmt: skip
    numbers = (height, width, *positions, *size, *stride, *pad, *dilate)
    fields = (*numbers, channels, depth, *map(divisor, divisors))
    return structure(_GEOMETRY, fields)
