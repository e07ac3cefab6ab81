"""Losses that are not finite, and how they are kept from changing parameters."""

from __future__ import annotations

import math
from typing import Any

from vdcore import kernels
from vdcore.arrays import Array, array_namespace, is_array, is_on_gpu, untraced
from vdcore.replay import each_time


class NonFiniteLossError(FloatingPointError):
    """The loss is NaN or infinite; no parameter has been changed by it."""


class LossGuard:
    """Notes on a GPU whether its losses have been finite, without waiting for it.

    Attributes
    ----------
    finite : array of int32, shape (), or None
        On the GPU: 1 as long as all losses have been. None where losses are looked at
        as they come.
    """

    def __init__(self) -> None:
        self.finite: Any = None
        self._updates: Any = None  # with a finite loss since the last check
        self._expected = 0

    def watch(self, loss: Array) -> None:
        """Note a loss, if it is on a GPU."""
        loss = untraced(loss)
        if not is_on_gpu(loss):
            self.finite = None
            return
        if self.finite is None:
            self.start(loss)
        finite, updates = kernels.watch_loss(loss, self.finite, self._updates)
        if finite is not self.finite:  # which a recorded step finds where it was
            self.finite[...], self._updates[...] = finite, updates
        each_time(self._expect)

    def start(self, like: Array) -> None:
        """Begin anew, on the GPU of `like`."""
        xp = array_namespace(like)
        self.finite = xp.ones((), dtype=xp.int32)
        self._updates = xp.zeros((), dtype=xp.int32)
        self._expected = 0

    def check(self) -> int:
        """Wait for the GPU; how many losses, up to the last, came to nothing.

        That is all from the first on that was not finite. Begins anew.
        """
        if self.finite is None:
            return 0
        in_vain = self._expected - int(self._updates)
        self.finite[...], self._updates[...] = 1, 0
        self._expected = 0
        return in_vain

    def _expect(self) -> None:
        self._expected += 1


def check_finite(loss: Array) -> None:
    """Raise if a loss that is not on a GPU is NaN or infinite.

    Raises
    ------
    NonFiniteLossError
    """
    loss = untraced(loss)
    if not is_array(loss) or tuple(loss.shape) != () or is_on_gpu(loss):
        return
    if not math.isfinite(float(loss)):
        message = (
            f"update: the loss is {float(loss)}; this update changed no parameter. "
            "Lower the learning rate, clip the gradients, or look at the data"
        )
        raise NonFiniteLossError(message)
