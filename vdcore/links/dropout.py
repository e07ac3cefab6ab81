"""Dropout with a generator of its own."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore.arrays import Array
from vdcore.configuration import spawn_rng
from vdcore.functions.dropout import check_ratio
from vdcore.link import Link
from vdcore.serialization import generator_state, restore_generator


class Dropout(Link):
    """As :func:`vdcore.functions.dropout`, resumed bit for bit from a snapshot.

    Parameters
    ----------
    ratio : float
        Probability of each activation to become 0 in training, in [0, 1).
    rng : numpy.random.Generator, optional
        Source of the masks. Default a child of ``config.rng``.
    """

    def __init__(
        self, ratio: float = 0.5, *, rng: numpy.random.Generator | None = None
    ) -> None:
        super().__init__()
        check_ratio("Dropout", ratio)
        self.ratio = ratio
        self.rng = spawn_rng() if rng is None else rng

    def forward(self, x: Array) -> Array:
        """Drop activations in training; give back `x` otherwise."""
        return F.dropout(x, self.ratio, rng=self.rng)

    def serialize_training_state(self, serializer: Any) -> None:
        """Read or write the state of the generator."""
        state = serializer("rng", generator_state(self.rng))
        restore_generator(self.rng, state)
        super().serialize_training_state(serializer)
