"""Blocks of channels and panels of strips: the parts that a convolution is done in."""

from __future__ import annotations

from vdcore.backends.cpu.images import COLUMNS, Strips
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.product import ROWS


def partition(plan: Strips, height: int, groups: int) -> tuple[int, int, int]:
    """Blocks of channels in a group, strips in a panel, and parts of the work.

    `height` is the number of output channels of a group.
    """
    blocks = -(-height // ROWS)
    panel = max(1, COLUMNS // 2 // plan.length)
    panels = -(-len(plan.starts) // panel)
    return blocks, panel, panels * blocks * groups


@jit()
def bounds(part, blocks, panel, groups, height, count):
    """Group, first and last row, first and last strip of one part."""
    block = part % (blocks * groups)
    group, block = block // blocks, block % blocks
    top = group * height + block * ROWS
    first = part // (blocks * groups) * panel
    bottom = min(top + ROWS, (group + 1) * height)
    return group, top, bottom, first, min(first + panel, count)
