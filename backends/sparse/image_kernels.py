"""The compiled forward of a sparse convolutional network: all its layers in one call.

A program is a list of steps, see :mod:`vdcore.backends.sparse.image_program`. Each step
reads the images that the one before it wrote, in one of two stretches of memory, and
writes to the other. A block of one or more examples goes through all steps before the
next block starts. Threads either take blocks, or share the work of each step.
"""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.team import add, parallel_for
from vdcore.backends.cpu.transposition import SIDE, transpose
from vdcore.backends.cpu.vectors import add_scaled, load, splat, store
from vdcore.backends.sparse.image_layout import (
    ACTIVATE,
    MAX,
    READ,
    SPREAD,
    WEIGH,
    WRITE,
)
from vdcore.backends.sparse.kernels import (
    RELU,
    SOFTMAX,
    activate,
    softmax,
)
from vdcore.backends.sparse.tiles import WIDTH, larger, load_every_other, tile

# mypy: ignore-errors
# Numba gives these functions their types.

f = numpy.float32
u = numpy.uint64
SHORT = 4  # numbers in the shortest vector that is worth it
LOWEST = f(-numpy.inf)


@jit()
def run(board, taken, program, memory, lanes, batch, x, out):
    """Take `batch` examples `x` through the program, into `out`.

    Parameters
    ----------
    board : array
        Of a :func:`~vdcore.backends.cpu.team.team`.
    taken : array of int64, shape (1,)
        0.
    program : tuple of arrays
        The fields of a ``Program`` that are arrays.
    memory : array of float32, shape (n, 2, size)
        Two stretches for each of n threads that take blocks. With n = 1 the team
        shares the work of each step.
    lanes : int
        Examples in a block.
    batch : int
    x, out : array of float32, shape (batch * in_size,), (batch * out_size,)
    """
    steps = program[0]
    if len(memory) == 1:
        for row in range(0, batch, lanes):
            count = min(lanes, batch - row)
            here, there = memory[0, 0], memory[0, 1]
            for k in range(len(steps)):
                arguments = (program, k, here, there, lanes, x, out, row, count)
                if steps[k].shared:
                    parallel_for(board, steps[k].parts, _part, arguments)
                else:
                    for part in range(steps[k].parts):
                        _part(*arguments, part)
                if steps[k].kind != ACTIVATE:
                    here, there = there, here
    else:
        arguments = (taken, program, memory, lanes, batch, x, out)
        parallel_for(board, len(memory), _blocks, arguments)
    if steps[-1].activation == SOFTMAX:
        size = out.size // max(batch, 1)
        for row in range(batch):
            softmax(out[row * size : (row + 1) * size])


@jit()
def _blocks(taken, program, memory, lanes, batch, x, out, place):
    """Do all steps for one block after the other, until none is left."""
    steps = program[0]
    while True:
        row = add(taken, 0, lanes)
        if row >= batch:
            return
        count = min(lanes, batch - row)
        here, there = memory[place, 0], memory[place, 1]
        for k in range(len(steps)):
            for part in range(steps[k].parts):
                _part(program, k, here, there, lanes, x, out, row, count, part)
            if steps[k].kind != ACTIVATE:
                here, there = there, here


@jit()
def _part(program, k, here, there, lanes, x, out, row, count, part):
    """Do one of the parts of step `k`."""
    step = program[0][k]
    if step.kind == WEIGH:
        _weigh(program, step, here, there, part)
        return
    first = step.channels * part // step.parts
    last = step.channels * (part + 1) // step.parts
    for channel in range(first, last):
        source, target = channel * step.in_plane, channel * step.out_plane
        if step.kind == READ:
            _read(step, x, row, count, program[6][channel], there, target, lanes)
        elif step.kind == WRITE:
            _write(step, here, source, lanes, out, row, count, channel)
        elif step.kind == SPREAD:
            _spread(step, here, source, there, target, lanes)
        elif step.kind == ACTIVATE:
            _activate(step, here, source, lanes)
        else:
            _pool(step, here, source, there, target, lanes)


@jit()
def _weigh(program, step, here, there, part):
    """Sum inputs by weights: a convolution, or an affine map."""
    _, indptr, indices, values, biases, keep, _, splits = program
    number, piece = divmod(part, step.pieces)
    first, last = splits[step.splits + piece], splits[step.splits + piece + 1]
    floor = f(0) if step.activation == RELU else LOWEST
    outside = _outside(step)
    if number == 0:
        end = step.out_start + step.vectors * WIDTH
        for start in range(
            first * step.out_plane, last * step.out_plane, step.out_plane
        ):
            _fill(there, start, step.out_start, outside)
            _fill(there, start + end, step.out_plane - end, outside)
    # The last tile may cover a little of the one before it once more.
    at = min(number * step.tile, step.vectors - step.tile)
    bias = step.bias + first * step.bias_pitch + at * step.bias_step
    target = first * step.out_plane + step.out_start + at * WIDTH
    for row in range(step.row + first, step.row + last):
        weight = indptr[row]
        tile(
            step.tile, here, at * WIDTH, indices, values, weight,
            indptr[row + 1] - weight, biases, bias, step.bias_step, keep,
            step.keep + at * WIDTH, floor, outside, there, target,
        )  # fmt: skip
        bias += step.bias_pitch
        target += step.out_plane


@jit()
def _outside(step):
    """What surrounds an image: nothing that a window's result depends on."""
    return LOWEST if step.lowest else f(0)


@jit()
def _fill(target, start, count, value):
    for k in range(u(start), u(start) + u(max(count, 0))):
        target[k] = value


@jit()
def _copy(source, start, target, to, count):
    """Copy numbers; those in the middle twice where vectors overlap."""
    if count >= WIDTH:
        for k in range(0, count, WIDTH):
            at = min(k, count - WIDTH)
            store(target, u(to + at), load(source, u(start + at), WIDTH))
    elif count >= SHORT:
        for at in range(0, count, SHORT):
            at = min(at, count - SHORT)
            store(target, u(to + at), load(source, u(start + at), SHORT))
    else:
        for k in range(count):
            target[to + k] = source[start + k]


@jit()
def _frame(step, there, target, lanes):
    """Write what surrounds the image of one channel."""
    outside = _outside(step)
    size, gap = step.out_width * lanes, step.out_pitch - step.out_width * lanes
    _fill(there, target, step.out_start, outside)
    start = target + step.out_start
    for _ in range(step.out_height - 1):
        _fill(there, start + size, gap, outside)
        start += step.out_pitch
    end = target + step.out_plane
    _fill(there, start + size, end - start - size, outside)


@jit()
def _read(step, x, row, count, channel, there, target, lanes):
    """Lay out one channel of a block of examples."""
    _frame(step, there, target, lanes)
    width, pitch = step.out_width, step.in_plane
    for h in range(step.out_height):
        first = row * pitch + (channel * step.out_height + h) * width
        to = target + step.out_start + h * step.out_pitch
        if lanes == 1:
            _copy(x, first, there, to, width)
        elif count < lanes or min(lanes, width) < SIDE:
            for j in range(count):
                for w in range(width):
                    there[to + w * lanes + j] = x[first + j * pitch + w]
        else:
            for j in range(0, lanes, SIDE):
                for at in range(0, width, SIDE):
                    w = min(at, width - SIDE)
                    start = first + j * pitch + w
                    place = to + w * lanes + j
                    transpose(x, u(start), u(pitch), there, u(place), u(lanes))


@jit()
def _write(step, here, source, lanes, out, row, count, channel):
    """Copy one channel of a block of examples to the rows of `out`."""
    width, pitch = step.in_width, step.out_plane
    for h in range(step.in_height):
        first = row * pitch + (channel * step.in_height + h) * width
        start = source + step.in_start + h * step.in_pitch
        if lanes == 1:
            _copy(here, start, out, first, width)
        elif count < lanes or min(lanes, width) < SIDE:
            for j in range(count):
                for w in range(width):
                    out[first + j * pitch + w] = here[start + w * lanes + j]
        else:
            for j in range(0, lanes, SIDE):
                for at in range(0, width, SIDE):
                    w = min(at, width - SIDE)
                    place = start + w * lanes + j
                    to = first + j * pitch + w
                    transpose(here, u(place), u(lanes), out, u(to), u(pitch))


@jit()
def _spread(step, here, source, there, target, lanes):
    """Sort the pixels of the padded image by their places between two strides.

    Each sort makes an image of its own, in which the window moves pixel by pixel.
    """
    _fill(there, target, step.out_plane, f(0))
    image = step.out_height * step.out_pitch
    for h in range(step.in_height):
        y, row = divmod(h + step.row_pad, step.row_stride)
        start = source + step.in_start + h * step.in_pitch
        for w in range(step.in_width):
            z, column = divmod(w + step.column_pad, step.column_stride)
            if y < step.out_height and z < step.out_width:
                to = target + (row * step.column_stride + column) * image
                to += y * step.out_pitch + z * lanes
                for k in range(lanes):
                    there[to + k] = here[start + w * lanes + k]


@jit()
def _activate(step, here, source, lanes):
    for h in range(step.in_height):
        start = source + step.in_start + h * step.in_pitch
        activate(here[start : start + step.in_width * lanes], step.activation)


def _pooling_kernel(take, width, pixels):
    """Make the kernel that pools one channel.

    It makes a vector of `width` numbers at a time, of `pixels` pixels, from those that
    ``take(array, offset, width)`` loads from as many windows.
    """

    @jit()
    def pool(step, here, source, there, target):
        largest = step.kind == MAX
        mean = f(1) / f(step.rows * step.columns)
        next_column = width // pixels
        vectors = (step.out_width + pixels - 1) // pixels
        for h in range(step.out_height):
            first = source + h * step.row_stride * step.in_pitch
            to = target + step.out_start + h * step.out_pitch
            for _ in range(vectors):
                total = splat(LOWEST if largest else f(0), width)
                line = first
                for _ in range(step.rows):
                    for k in range(step.columns):
                        met = take(here, u(line + k * next_column), width)
                        if largest:
                            total = larger(total, met)
                        else:
                            total = add_scaled(total, mean, met)
                    line += step.in_pitch
                store(there, u(to), total)
                first += step.column_stride * width
                to += width

    return pool


_pool_pairs = _pooling_kernel(load_every_other, WIDTH, WIDTH)
_pool_1, _pool_4, _pool_8, _pool_16 = (
    _pooling_kernel(load, width, 1) for width in (1, 4, 8, WIDTH)
)


@jit()
def _pool(step, here, source, there, target, lanes):
    """The largest numbers, or the means, of the windows of one channel."""
    if lanes == 16:
        _pool_16(step, here, source, there, target)
    elif lanes == 8:
        _pool_8(step, here, source, there, target)
    elif lanes == 4:
        _pool_4(step, here, source, there, target)
    elif step.column_stride == 2:
        _pool_pairs(step, here, source, there, target)
    else:
        _pool_1(step, here, source, there, target)
    _frame(step, there, target, lanes)
