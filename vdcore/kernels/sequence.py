"""What the kernels of recurrent networks have in common."""

from __future__ import annotations

from vdcore.arrays import Array, array_namespace


def blocks(a: Array, count: int) -> list[Array]:
    """The equal blocks that an array has along its last axis."""
    size = a.shape[-1] // count
    return [a[..., k * size : (k + 1) * size] for k in range(count)]


def states_before(h: Array, hs: Array) -> Array:
    """Hidden state that each step starts from: `h`, and all but the last of `hs`."""
    xp = array_namespace(h, hs)
    return xp.concat([xp.expand_dims(h, axis=0), hs[:-1, ...]], axis=0)


def outer_sum(ga: Array, h: Array) -> Array:
    """Sum over steps and batch of the outer products of two arrays' vectors.

    Shapes (time, batch, rows) and (time, batch, columns) make (rows, columns): the
    gradient of weights, in one matrix product.
    """
    xp = array_namespace(ga, h)
    rows = xp.reshape(ga, (-1, ga.shape[-1]))
    return xp.matmul(xp.matrix_transpose(rows), xp.reshape(h, (-1, h.shape[-1])))
