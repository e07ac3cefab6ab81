"""Feature-major arrays: the batch last in memory, for all that goes by channels.

Activations of shape (batch, channels, height, width) lie in memory as (channels,
height, width, batch), between compiled layers and within them. Each channel is one run
of numbers then, each pixel one run of examples, and what a layer puts out is what the
next one takes, without a copy.
"""

from __future__ import annotations

import numpy

PART = 2**14  # numbers that are worth the handing out of a part


def feature_major(x: numpy.ndarray) -> numpy.ndarray:
    """Shape (channels, ..., batch), contiguous; a copy unless `x` lies like that."""
    return numpy.ascontiguousarray(x.transpose(*range(1, x.ndim), 0))


def batch_major(x: numpy.ndarray) -> numpy.ndarray:
    """The view of shape (batch, channels, ...) of a feature-major array."""
    return x.transpose(-1, *range(x.ndim - 1))


def parts_of(x: numpy.ndarray) -> int:
    """Into how many parts to divide work on the channels of an array among threads."""
    return min(len(x), max(1, x.size // PART))
