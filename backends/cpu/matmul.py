"""Products of large matrices, on the tiles of :mod:`vdcore.backends.cpu.product`.

The right factor is copied into panels of as many columns as a tile has, so that a tile
reads it from beginning to end; a few panels stay in the second-level cache while blocks
of rows of the left factor go by. Sums run over the depth in steps of one length, so
that results depend neither on the number of threads nor on where the factors lie.
"""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.product import BLOCK, LANES, ROWS, product
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.transposition import SIDE, transpose

SMALLEST = 2**18  # multiplications; NumPy is as fast at fewer
DEPTH = 1024  # rows of a panel at a time
PANELS = 2**17  # numbers of all panels that are gone through side by side
GROUP = 32  # blocks of rows that these are used for before they may leave the cache
STRIPE = 16  # rows of a panel that are written together: they stay in the first cache

u = numpy.uint64


def matmul(
    a: numpy.ndarray, b: numpy.ndarray, shift: numpy.ndarray | None = None
) -> numpy.ndarray:
    """``a @ b``, plus `shift` in each row; C-contiguous.

    Of float32 matrices that may lie in any way.
    """
    if a.size * b.shape[1] <= SMALLEST:
        c = numpy.ascontiguousarray(a @ b)
        return c if shift is None else c + shift
    c = empty((len(a), b.shape[1]))
    if shift is None:
        shift = numpy.zeros(c.shape[1], numpy.float32)
    shift = numpy.ascontiguousarray(shift)
    # Right factors are read by rows, left ones along theirs; what lies otherwise is
    # turned round, which takes longer than the copy. Let that be the smaller one.
    larger = a if a.size > b.size else b
    turned = larger.strides[0] == larger.itemsize
    if turned:
        a, b = b.T, a.T  # whose product is turned round in blocks, in the cache
    panels = panels_of(b)
    depth, blocks = len(b), -(-len(a) // ROWS)
    step = -(-depth // -(-depth // DEPTH))
    together = min(max(1, PANELS // (step * BLOCK)), len(panels))
    parts = -(-blocks // GROUP) * -(-len(panels) // together)
    # As blocks of rows: one of all, or of ROWS each.
    a = a[None] if a.strides[1] == a.itemsize else _blocks_of(a.T).swapaxes(1, 2)
    _multiply(team(parts), parts, a[:, :, 0:], panels, step, together, turned, shift, c)
    return c


def panels_of(b: numpy.ndarray) -> numpy.ndarray:
    """Panels of a right factor, shape (panels, depth, BLOCK), with zeros at the end."""
    depth, columns = b.shape
    count = -(-columns // BLOCK)
    panels = empty((count, depth, BLOCK), numpy.float32)
    if b.strides[0] == b.itemsize and depth > 1:
        _fill_from_columns(team(count), b.T, panels)
    else:
        _fill_from_rows(team(count), numpy.ascontiguousarray(b), panels)
    return panels


@jit()
def _fill_from_rows(board, b, panels):
    parallel_for(
        board, (len(b) + STRIPE - 1) // STRIPE, _fill_stripe_from_rows, (b, panels)
    )


@jit()
def _fill_stripe_from_rows(b, panels, stripe):
    top, bottom = stripe * STRIPE, min((stripe + 1) * STRIPE, len(b))
    for number in range(len(panels)):
        left = number * BLOCK
        width = min(BLOCK, b.shape[1] - left)
        for row in range(top, bottom):
            for j in range(width):
                panels[number, row, j] = b[row, left + j]
            for j in range(width, BLOCK):
                panels[number, row, j] = 0


@jit()
def _fill_from_columns(board, b, panels):
    parallel_for(board, len(panels), _fill_panel_from_columns, (b, panels))


@jit()
def _fill_panel_from_columns(b, panels, number):
    left = number * BLOCK
    width = min(BLOCK, len(b) - left)
    panel = panels[number]
    for top in range(0, len(panel), STRIPE):
        bottom = min(top + STRIPE, len(panel))
        for j in range(width):
            for row in range(top, bottom):
                panel[row, j] = b[left + j, row]
        for j in range(width, BLOCK):
            for row in range(top, bottom):
                panel[row, j] = 0


def _blocks_of(a: numpy.ndarray) -> numpy.ndarray:
    """Blocks of columns of `a`, shape (blocks, depth, ROWS)."""
    depth, height = a.shape
    count = -(-height // ROWS)
    blocks = empty((count, depth, ROWS), numpy.float32)
    _fill_blocks(team(count), numpy.ascontiguousarray(a), blocks)
    return blocks


@jit()
def _fill_blocks(board, a, blocks):
    parallel_for(
        board, (len(a) + STRIPE - 1) // STRIPE, _fill_stripe_of_blocks, (a, blocks)
    )


@jit()
def _fill_stripe_of_blocks(a, blocks, stripe):
    top, bottom = stripe * STRIPE, min((stripe + 1) * STRIPE, len(a))
    for number in range(len(blocks)):
        left = number * ROWS
        for step in range(top, bottom):
            for row in range(min(ROWS, a.shape[1] - left)):
                blocks[number, step, row] = a[step, left + row]


@jit()
def _multiply(board, parts, a, panels, step, together, turned, shift, c):
    arguments = (a, panels, step, together, turned, shift, c)
    parallel_for(board, parts, _multiply_part, arguments)


@jit()
def _multiply_part(a, panels, step, together, turned, shift, c, part):
    height, columns = (c.shape[1], c.shape[0]) if turned else c.shape
    groups = (height + GROUP * ROWS - 1) // (GROUP * ROWS)
    top = part % groups * GROUP * ROWS
    bottom = min(top + GROUP * ROWS, height)
    first = part // groups * together
    last = min(first + together, len(panels))
    depth, tall = panels.shape[1], a.shape[1]
    # They stay in the cache until they are whole, and go to memory once, in long runs.
    sums = numpy.empty((last - first, bottom - top, BLOCK), numpy.float32)
    tile = numpy.empty((ROWS, BLOCK), numpy.float32)
    for start in range(0, depth, step):
        end = min(start + step, depth)
        for row in range(top, bottom, ROWS):
            upper = row % tall
            below = min(row + ROWS, bottom)
            lines = a[row // tall, upper : upper + below - row, start:end]
            for number in range(first, last):
                width = whole_vectors(columns - number * BLOCK)
                panel = panels[number, start:end, :width]
                target = sums[number - first, row - top : below - top]
                if start == 0:
                    product(lines, panel, target[:, :width])
                else:
                    product(lines, panel, tile[:, :width])
                    for k in range(len(target)):
                        for j in range(width):
                            target[k, j] += tile[k, j]
    for number in range(first, last):
        left = number * BLOCK
        width = min(BLOCK, columns - left)
        if turned:
            _hand_over_turned(sums[number - first], top, left, width, shift, c)
        else:
            _hand_over(sums[number - first], top, left, width, shift, c)


@jit()
def _hand_over(sums, top, left, width, shift, c):
    """Write sums into c from row `top` and column `left` on."""
    added = shift[left : left + width]
    for row in range(len(sums)):
        target = c[top + row, left : left + width]
        for j in range(width):
            target[j] = sums[row, j] + added[j]


@jit()
def _hand_over_turned(sums, top, left, width, shift, c):
    """Write sums into the columns of c from `top` on, and its rows from `left` on."""
    height = len(sums)
    for row in range(height):
        for j in range(width):
            sums[row, j] += shift[top + row]
    if min(height, width) < SIDE:
        for j in range(width):
            for row in range(height):
                c[left + j, top + row] = sums[row, j]
        return
    pitch = u(c.shape[1])
    for j in range(0, width, SIDE):
        j = min(j, width - SIDE)
        for row in range(0, height, SIDE):
            row = min(row, height - SIDE)
            here, there = u(row * BLOCK + j), u(left + j) * pitch + u(top + row)
            transpose(sums, here, u(BLOCK), c, there, pitch)


@jit()
def whole_vectors(columns):
    """Columns of a panel that hold `columns` ones of the factor, and zeros."""
    return min(BLOCK, (columns + LANES - 1) // LANES * LANES)
