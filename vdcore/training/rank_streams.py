"""Random numbers of one process among several that were given the same seed."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import numpy

from vdcore.serialization import Serializer, generator_state, restore_generator


class RankStreams(Serializer):
    """Gives the generators of an object streams that only one rank has.

    ``obj.serialize(RankStreams(rank))`` changes what a snapshot of `obj` would hold of
    generators, and leaves the rest as it is.

    Parameters
    ----------
    rank : int
        0: the streams stay those of a single process.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def _exchange(self, name: str, value: Any) -> Any:
        is_generator = isinstance(value, dict) and "bit_generator" in value
        return stream_of_rank(value, self.rank) if is_generator else value


def stream_of_rank(state: dict[str, Any], rank: int) -> dict[str, Any]:
    """State of a generator whose stream follows from another's and from a rank.

    Parameters
    ----------
    state : dict
        As of :func:`vdcore.serialization.generator_state`.
    rank : int
        0: the same stream. Those of all ranks are independent of each other.

    Examples
    --------
    >>> state = generator_state(numpy.random.default_rng(0))
    >>> stream_of_rank(state, 0) == state
    True
    >>> stream_of_rank(state, 1) == stream_of_rank(state, 1)
    True
    >>> stream_of_rank(state, 1) == stream_of_rank(state, 2)
    False
    """
    if rank == 0:
        return state
    text = json.dumps([state, rank], sort_keys=True)
    entropy = int.from_bytes(hashlib.sha256(text.encode()).digest())
    kind = getattr(numpy.random, state["bit_generator"])
    return generator_state(numpy.random.Generator(kind(entropy)))


def generator_of_rank(rng: numpy.random.Generator, rank: int) -> numpy.random.Generator:
    """Return a new generator with the stream of a rank, and leave `rng` as it is."""
    own = copy.deepcopy(rng)
    restore_generator(own, stream_of_rank(generator_state(rng), rank))
    return own
