"""Gradient of a convolution by its weights."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.dots import LINES, add_dots
from vdcore.backends.cpu.elementwise import f
from vdcore.backends.cpu.images import COLUMNS, Strips
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty_like
from vdcore.backends.cpu.product import ROWS
from vdcore.backends.cpu.team import parallel_for, team

BLOCKS = 3  # blocks of rows of the gradient that share a strip
PARTS = 16  # at least, if there are so many weights


def weight_gradient(
    gy: numpy.ndarray, image: numpy.ndarray, plan: Strips, W: numpy.ndarray, groups: int
) -> numpy.ndarray:
    """Gradient by the weights, from that by the outputs and the padded input."""
    gW = empty_like(W)
    height = len(W) // groups
    stacks = -(-height // (ROWS * BLOCKS))
    lines = -(-plan.rows.size // LINES)
    shares = min(lines, -(-PARTS // (stacks * groups)))
    parts = stacks * groups * shares
    chunk = max(1, COLUMNS // plan.length)
    _add_weight_gradient(
        team(parts), parts, stacks, shares, chunk, gy.reshape(-1), image.reshape(-1),
        plan.rows, plan.starts, plan.length, groups, gW.reshape(len(W), -1),
    )  # fmt: skip
    return gW


@jit()
def _add_weight_gradient(
    board, parts, stacks, shares, chunk, gy, image, rows, starts, length, groups, gW
):  # fmt: skip
    arguments = (
        stacks, shares, chunk, gy, image, rows, starts, length, groups, gW,
    )  # fmt: skip
    parallel_for(board, parts, _weight_gradient_part, arguments)


@jit()
def _weight_gradient_part(
    stacks, shares, chunk, gy, image, rows, starts, length, groups, gW, part
):  # fmt: skip
    share, stack = part % shares, part // shares
    group, stack = stack // stacks, stack % stacks
    height, plane = len(gW) // groups, image.size // groups
    pitch = gy.size // len(gW)
    lines = (rows.size + LINES - 1) // LINES
    left = share * lines // shares * LINES
    right = min((share + 1) * lines // shares * LINES, rows.size)
    top = group * height + stack * ROWS * BLOCKS
    bottom = min(top + ROWS * BLOCKS, (group + 1) * height)
    channel = image[group * plane : (group + 1) * plane]
    gW[top:bottom, left:right] = f(0)
    for first in range(0, len(starts), chunk):
        last = min(first + chunk, len(starts))
        for row in range(top, bottom, ROWS):
            count = min(ROWS, bottom - row)
            for k in range(left, right, LINES):
                add_dots(
                    gy, row * pitch, pitch, count, channel, rows, k,
                    min(LINES, right - k), starts, first, last, length, gW, row, k,
                )  # fmt: skip
