"""Images in memory as compiled convolutions read them: strips of pixels of a batch.

Images are feature-major, shape (channels, height, width, batch). What one weight of a
kernel meets in neighbouring positions then lies side by side, whatever the batch, so
that a convolution is a matrix product whose right factor need not be unfolded: its
rows are strips of the padded image itself, one for each weight, which overlap.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy

from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.windows import Pair, Window

# Numbers of the image that blocks of channels share before they go on to its next
# strips, as many as third-level caches hold for each of a few threads.
PANEL = 2**18
SHORTEST = 64  # fill the registers of a product; a batch may have more
COLUMNS = 1024  # numbers in a strip, at most, unless one pixel of the batch has more


class Strips(NamedTuple):
    """Where the weights of a kernel meet the pixels of one strip after the other.

    Attributes
    ----------
    size : pair of int
        Rows and columns of the padded image.
    rows : array of int64, shape (channels * elements,)
        For each weight, how far from the start of a strip its pixels begin.
    starts : array of int64, shape (strips,)
        Where the strips begin in the padded image. In the output they follow one
        another.
    length : int
        Numbers in a strip, of whole pixels of the batch.
    lines : array of int64, shape (strips,)
        Row of the padded image that each strip begins in.
    """

    size: Pair
    rows: numpy.ndarray
    starts: numpy.ndarray
    length: int
    lines: numpy.ndarray


@functools.lru_cache(maxsize=256)
def strips(
    window: Window, channels: int, positions: Pair, batch: int, columns: int = COLUMNS
) -> Strips:
    """The strips of a convolution; `columns` limits their length.

    Parameters
    ----------
    window : Window
    channels : int
        Input channels that an output channel sees.
    positions : pair of int
        Rows and columns of the output.
    batch : int
    columns : int
    """
    (sh, sw), (eh, ew), (dh, dw) = window.stride, window.extent, window.dilate
    height, width = size = (
        (positions[0] - 1) * sh + eh,
        (positions[1] - 1) * sw + ew,
    )
    elements = numpy.add.outer(
        numpy.arange(window.size[0]) * dh * width, numpy.arange(window.size[1]) * dw
    )
    planes = numpy.arange(channels) * height * width
    rows = numpy.add.outer(planes, elements).reshape(-1) * batch
    # Pixels that lie side by side in both images: in a row, or in the whole image.
    pixels = 1 if sw > 1 else positions[1]
    if sw == sh == 1 and width == positions[1]:
        pixels = positions[0] * positions[1]
    while pixels > 1 and pixels * batch > columns:
        pixels //= next(n for n in range(2, pixels + 1) if pixels % n == 0)
    first = numpy.arange(0, positions[0] * positions[1], pixels)
    lines = first // positions[1] * sh
    starts = (lines * width + first % positions[1] * sw) * batch
    return Strips(size, rows, starts, pixels * batch, lines)


def spread(
    x: numpy.ndarray, size: Pair, first: Pair, step: Pair = (1, 1)
) -> numpy.ndarray:
    """Set images into larger ones, 0 elsewhere; `x` itself where nothing changes.

    Parameters
    ----------
    x : array, shape (channels, height, width, batch)
    size : pair of int
        Rows and columns of the result.
    first : pair of int
        Where the first pixel goes; pixels that fall outside are left out.
    step : pair of int
        From one pixel to the next.
    """
    channels, height, width, batch = x.shape
    if size == (height, width) and first == (0, 0) and step == (1, 1):
        return x
    image = empty((channels, *size, batch), x.dtype)
    _spread(team(channels), x, first, step, image)
    return image


@jit()
def _spread(board, x, first, step, image):
    parallel_for(board, len(x), _spread_channel, (x, first, step, image))


@jit()
def _spread_channel(x, first, step, image, channel):
    source, target = x[channel], image[channel]
    height, width, _ = source.shape
    for row in range(target.shape[0]):
        above = row - first[0]
        if above < 0 or above % step[0] != 0 or above // step[0] >= height:
            target[row] = f(0)
            continue
        pixels, places = source[above // step[0]], target[row]
        left = min(max(first[1], 0), len(places))
        right = min(max(first[1] + (width - 1) * step[1] + 1, left), len(places))
        places[:left] = f(0)
        places[right:] = f(0)
        if step[1] == 1:
            places[left:right] = pixels[left - first[1] : right - first[1]]
        else:
            places[left:right] = f(0)
            for column in range(width):
                place = first[1] + column * step[1]
                if 0 <= place < len(places):
                    places[place] = pixels[column]


def planned(window: Window, channels: int, positions: Pair, batch: int) -> Strips:
    """Strips short enough for what they meet to stay in the cache."""
    seen = PANEL // (channels * window.size[0]) - (window.extent[1] - 1) * batch
    columns = min(max(seen, SHORTEST), COLUMNS)
    return strips(window, channels, positions, batch, columns)


def padded_strips(
    x: numpy.ndarray, window: Window, channels: int
) -> tuple[Strips, numpy.ndarray]:
    """The strips of a convolution, and its padded input."""
    _, height, width, batch = x.shape
    plan = planned(window, channels, window.positions((height, width)), batch)
    return plan, spread(x, plan.size, window.pad)


def multiply(x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
    """Elementwise product of feature-major images."""
    result = empty_like(x)
    _multiply(team(len(x)), *(a.reshape(len(x), -1) for a in (x, y, result)))
    return result


@jit()
def _multiply(board, x, y, result):
    parallel_for(board, len(x), _multiply_channel, (x, y, result))


@jit()
def _multiply_channel(x, y, result, channel):
    x, y, result = x[channel], y[channel], result[channel]
    for j in range(x.size):
        result[j] = x[j] * y[j]
