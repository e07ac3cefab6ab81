"""Iterators: batches of examples, epoch after epoch."""

from __future__ import annotations

from vdcore.iterators.serial_iterator import Batch, SerialIterator

__all__ = ["Batch", "SerialIterator"]
