"""Iterators: batches of examples, epoch after epoch."""

from __future__ import annotations

from vdcore.iterators.parallel_sequential_iterator import ParallelSequentialIterator
from vdcore.iterators.serial_iterator import Batch, SerialIterator

__all__ = ["Batch", "ParallelSequentialIterator", "SerialIterator"]
