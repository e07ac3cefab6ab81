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

SMALLEST = 2**18  # multiplications; NumPy is as fast at fewer
DEPTH = 1024  # rows of a panel at a time
PANELS = 2**17  # numbers of all panels that are gone through side by side
GROUP = 16  # blocks of rows that these are used for before they may leave the cache
STRIPE = 16  # rows of a panel that are written together: they stay in the first cache


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
    none = numpy.zeros(max(c.shape), numpy.float32)
    shift = none if shift is None else numpy.ascontiguousarray(shift)
    # Right factors are read by rows, left ones along theirs; what lies otherwise is
    # turned round, which takes longer than the copy. Let that be the smaller one.
    larger = a if a.size > b.size else b
    if larger.strides[0] == larger.itemsize:
        _fill(b.T, a.T, shift, none, c.T)
    else:
        _fill(a, b, none, shift, c)
    return c


def _fill(a, b, row_shifts, column_shifts, c):
    """``c[i, j] = a[i] @ b[:, j] + row_shifts[i] + column_shifts[j]``."""
    panels = panels_of(b)
    depth, blocks = len(b), -(-len(a) // ROWS)
    step = -(-depth // -(-depth // DEPTH))
    together = min(max(1, PANELS // (step * BLOCK)), len(panels))
    parts = -(-blocks // GROUP) * -(-len(panels) // together)
    # As blocks of rows: one of all, or of ROWS each.
    a = a[None] if a.strides[1] == a.itemsize else _blocks_of(a.T).swapaxes(1, 2)
    _multiply(
        team(parts), parts, a[:, :, 0:], panels, step, together, row_shifts,
        column_shifts, c,
    )  # fmt: skip


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
def _multiply(board, parts, a, panels, step, together, rows, columns, c):
    arguments = (a, panels, step, together, rows, columns, c)
    parallel_for(board, parts, _multiply_part, arguments)


@jit()
def _multiply_part(a, panels, step, together, rows, columns, c, part):
    groups = (len(c) + GROUP * ROWS - 1) // (GROUP * ROWS)
    top = part % groups * GROUP * ROWS
    bottom = min(top + GROUP * ROWS, len(c))
    first = part // groups * together
    last = min(first + together, len(panels))
    depth, tall = panels.shape[1], a.shape[1]
    tile = numpy.empty((ROWS, BLOCK), numpy.float32)
    for start in range(0, depth, step):
        end = min(start + step, depth)
        for row in range(top, bottom, ROWS):
            upper = row % tall
            lines = a[row // tall, upper : upper + min(ROWS, bottom - row), start:end]
            for number in range(first, last):
                width = whole_vectors(c.shape[1] - number * BLOCK)
                panel = panels[number, start:end, :width]
                product(lines, panel, tile[:, :width])
                _keep(tile, row, bottom, number, start, rows, columns, c)


@jit()
def whole_vectors(columns):
    """Columns of a panel that hold `columns` ones of the factor, and zeros."""
    return min(BLOCK, (columns + LANES - 1) // LANES * LANES)


@jit()
def _keep(tile, top, bottom, number, start, rows, columns, c):
    left = number * BLOCK
    for row in range(min(ROWS, bottom - top)):
        for j in range(min(BLOCK, c.shape[1] - left)):
            before = c[top + row, left + j]
            if start == 0:
                before = rows[top + row] + columns[left + j]
            c[top + row, left + j] = before + tile[row, j]
