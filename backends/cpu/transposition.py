"""Large matrices turned round in memory, by all threads."""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.team import parallel_for, team

LARGE = 2**18  # numbers; NumPy is as fast at fewer
LINE = 16  # numbers in a cache line
u = numpy.uint64


def contiguous(x: numpy.ndarray) -> numpy.ndarray:
    """As ``numpy.ascontiguousarray``."""
    turnable = x.ndim == 2 and x.T.flags.c_contiguous and x.dtype == numpy.float32
    if x.flags.c_contiguous or not turnable or x.size < LARGE:
        return numpy.ascontiguousarray(x)
    turned = empty(x.shape)
    parts = -(-len(x) // LINE)
    _turn(team(parts), parts, x.T, turned)
    return turned


@jit()
def _turn(board, parts, x, turned):
    parallel_for(board, parts, _turn_part, (x, turned))


@jit()
def _turn_part(x, turned, part):
    left, right = part * LINE, min((part + 1) * LINE, len(turned))
    whole = len(x) // LINE * LINE
    for top in range(0, whole, LINE):
        for column in range(left, right):
            for row in range(LINE):
                turned[column, u(top + row)] = x[u(top + row), column]
    for row in range(whole, len(x)):
        for column in range(left, right):
            turned[column, row] = x[row, column]
