"""Long short-term memory: a step's product and its gates in one pass over the weights.

A part of a step is a few units: the product gives what their gates need, or the
gradient by their hidden state, and before it leaves the cache they take it up. Lateral
weights are laid out once for all steps, in the order in which a step reads them.
"""

from __future__ import annotations

import numpy

from vdcore.backends.cpu.elementwise import ONE, f
from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.matmul import BLOCK, matmul, panels_of, whole_vectors
from vdcore.backends.cpu.memory import empty
from vdcore.backends.cpu.product import LANES, ROWS, product
from vdcore.backends.cpu.team import parallel_for, team
from vdcore.backends.cpu.vector_math import sigmoid, tanh
from vdcore.backends.cpu.vectors import add_scaled, load, store

u = numpy.uint64  # indices that are not negative, which vector code needs

GATES = 4


def lstm_forward(
    z: numpy.ndarray, W: numpy.ndarray, h: numpy.ndarray, c: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.lstm_forward``."""
    steps, batch, _ = z.shape
    units = h.shape[1]
    # Each with the first state before it.
    hs, cs = (empty((steps + 1, batch, units)) for _ in range(2))
    hs[0], cs[0] = h, c
    gates = empty(z.shape)
    panels = gate_panels(W, GATES)
    z = numpy.ascontiguousarray(z)
    _forward(team(len(panels)), z, panels, hs, cs, gates)
    return hs[1:], cs[1:], gates


def lstm_backward(
    ghs: numpy.ndarray,
    gc: numpy.ndarray | None,
    W: numpy.ndarray,
    h: numpy.ndarray,
    c: numpy.ndarray,
    hs: numpy.ndarray,
    cs: numpy.ndarray,
    gates: numpy.ndarray,
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """As ``kernels.lstm_backward``."""
    gz, gh = empty(gates.shape), empty(h.shape)
    by_c = numpy.zeros_like(c, order="C") if gc is None else numpy.array(gc, order="C")
    panels = panels_of(W)
    ghs, c, cs, gates = map(numpy.ascontiguousarray, (ghs, c, cs, gates))
    _backward(team(len(panels)), ghs, panels, c, cs, gates, gz, gh, by_c)
    before = numpy.concatenate([h, hs[:-1].reshape(-1, h.shape[1])])
    return gz, matmul(gz.reshape(len(before), -1).T, before), gh, by_c


def gate_panels(W: numpy.ndarray, gates: int) -> numpy.ndarray:
    """Lateral weights by units, shape (panels, units, gates * LANES).

    A panel has the columns of LANES units: those of the first gate, of the second, ...;
    zeros beyond the last unit.
    """
    units = W.shape[1]
    count = -(-units // LANES)
    panels = empty((count, units, gates * LANES))
    _fill_panels(team(count), numpy.ascontiguousarray(W), panels)
    return panels


@jit()
def _fill_panels(board, W, panels):
    parallel_for(board, len(panels), _fill_panel, (W, panels))


@jit()
def _fill_panel(W, panels, number):
    units = W.shape[1]
    panel = panels[number]
    left = number * LANES
    width = min(LANES, units - left)
    for top in range(0, units, LANES):
        bottom = min(top + LANES, units)
        for column in range(panel.shape[1]):
            gate, j = column // LANES, column % LANES
            if j < width:
                for row in range(top, bottom):
                    panel[row, column] = W[gate * units + left + j, row]
            else:
                for row in range(top, bottom):
                    panel[row, column] = f(0)


@jit()
def _forward(board, z, panels, hs, cs, gates):
    for t in range(len(z)):
        parallel_for(board, len(panels), _forward_part, (t, z, panels, hs, cs, gates))


@jit()
def _forward_part(t, z, panels, hs, cs, gates, number):
    batch, units = hs.shape[1:]
    panel = panels[number]
    left, width = number * LANES, min(LANES, units - number * LANES)
    total = numpy.empty((ROWS, GATES * LANES), numpy.float32)
    values = numpy.empty((GATES + 1, ROWS * LANES), numpy.float32)  # gates, cell state
    i, forget, g, o, c = values[0], values[1], values[2], values[3], values[4]
    sums, pieces, z = total.reshape(-1), values.reshape(-1), z.reshape(-1)
    gates, h, cells = gates.reshape(-1), hs.reshape(-1), cs.reshape(-1)
    state = GATES * ROWS * LANES  # where that of the cells is among the pieces
    for top in range(0, batch, ROWS):
        bottom = min(top + ROWS, batch)
        rows = bottom - top
        product(hs[t, top:bottom, 0:], panel[:, 0:], total[:, 0:])
        before = (t * batch + top) * units + left
        after = before + batch * units
        first = (t * batch + top) * GATES * units + left
        _take(z, first, units, rows, GATES, width, pieces, 0)
        _take(cells, before, units, rows, 1, width, pieces, state)
        for gate in range(GATES):
            for row in range(rows):
                place = u((gate * ROWS + row) * LANES)
                sum_ = load(sums, u((row * GATES + gate) * LANES), LANES)
                store(pieces, place, add_scaled(sum_, ONE, load(pieces, place, LANES)))
        for gate in (i, forget, o):
            for j in range(ROWS * LANES):
                gate[j] = sigmoid(gate[j])
        for j in range(ROWS * LANES):
            g[j] = tanh(g[j])
        for j in range(ROWS * LANES):
            c[j] = forget[j] * c[j] + i[j] * g[j]
        _leave(pieces, 0, rows, GATES, width, gates, first, units)
        _leave(pieces, state, rows, 1, width, cells, after, units)
        for j in range(ROWS * LANES):
            c[j] = o[j] * tanh(c[j])
        _leave(pieces, state, rows, 1, width, h, after, units)


# All rows and gates of a part at once: to hand an array to a function takes as long as
# to copy a few vectors.


@jit()
def _take(source, start, units, rows, gates, width, pieces, place):
    """Copy the units of a part, of so many rows, to `pieces`, gate by gate."""
    for row in range(rows):
        for gate in range(gates):
            there = u(start + (row * gates + gate) * units)
            here = u(place + (gate * ROWS + row) * LANES)
            if width == LANES:
                store(pieces, here, load(source, there, LANES))
            else:
                for j in range(u(width)):
                    pieces[here + j] = source[there + j]


@jit()
def _leave(pieces, place, rows, gates, width, target, start, units):
    """Copy `pieces` back to where :func:`_take` takes them from."""
    for row in range(rows):
        for gate in range(gates):
            there = u(start + (row * gates + gate) * units)
            here = u(place + (gate * ROWS + row) * LANES)
            if width == LANES:
                store(target, there, load(pieces, here, LANES))
            else:
                for j in range(u(width)):
                    target[there + j] = pieces[here + j]


@jit()
def _backward(board, ghs, panels, c, cs, gates, gz, gh, by_c):
    for t in range(len(ghs) - 1, -2, -1):
        arguments = (t, ghs, panels, c, cs, gates, gz, gh, by_c)
        parallel_for(board, len(panels), _backward_part, arguments)


@jit()
def _backward_part(t, ghs, panels, c, cs, gates, gz, gh, by_c, number):
    """What the step after `t` hands to some units, and what these make of it.

    With the first state at t = -1.
    """
    batch, units = gh.shape
    width = min(BLOCK, units - number * BLOCK)
    padded = whole_vectors(width)
    left, width, units = u(number * BLOCK), u(width), u(units)
    total = numpy.empty((ROWS, BLOCK), numpy.float32)
    for top in range(0, batch, ROWS):
        bottom = min(top + ROWS, batch)
        if t + 1 < len(gz):
            panel = panels[number, :, :padded]
            product(gz[t + 1, top:bottom, 0:], panel, total[:, :padded])
        else:
            total[:] = f(0)
        if t < 0:
            for row in range(top, bottom):
                for j in range(width):
                    gh[row, left + j] = total[row - top, j]
        else:
            before = cs[t - 1] if t > 0 else c
            _slopes(
                total, ghs[t], by_c, before, cs[t], gates[t], top, bottom, left, width,
                units, gz[t],
            )  # fmt: skip


@jit()
def _slopes(
    total, ghs, by_c, before, after, gates, top, bottom, left, width, units, gz
):  # fmt: skip
    # Of all rows at once, and by places in arrays of one axis: a view takes as long as
    # to go through a few vectors.
    by_h, by_cell = numpy.empty(BLOCK, numpy.float32), numpy.empty(BLOCK, numpy.float32)
    total, ghs, by_c, gz = (
        total.reshape(-1), ghs.reshape(-1), by_c.reshape(-1), gz.reshape(-1)
    )  # fmt: skip
    before, after, gates = before.reshape(-1), after.reshape(-1), gates.reshape(-1)
    for row in range(u(top), u(bottom)):
        here, state = (row - u(top)) * u(BLOCK), row * units + left
        i = row * u(GATES) * units + left
        forget, g, o = i + units, i + u(2) * units, i + u(3) * units
        for j in range(width):
            by_h[j] = total[here + j] + ghs[state + j]
        for j in range(width):
            squashed = tanh(after[state + j])
            by_cell[j] = by_h[j] * (ONE - squashed * squashed)
            by_h[j] *= squashed
        for j in range(width):
            gz[o + j] = by_h[j] * _slope(gates[o + j])
        for j in range(width):
            by_cell[j] = by_cell[j] * gates[o + j] + by_c[state + j]
        for j in range(width):
            gz[i + j] = by_cell[j] * gates[g + j] * _slope(gates[i + j])
        for j in range(width):
            gz[forget + j] = by_cell[j] * before[state + j] * _slope(gates[forget + j])
        for j in range(width):
            gz[g + j] = by_cell[j] * gates[i + j] * (ONE - gates[g + j] * gates[g + j])
        for j in range(width):
            by_c[state + j] = by_cell[j] * gates[forget + j]


@jit(inline="always")
def _slope(activated):
    """Derivative of the logistic function where it has this value."""
    return activated * (ONE - activated)
