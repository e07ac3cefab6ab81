"""Truncated backpropagation through time: one window of a text an iteration."""

from __future__ import annotations

from typing import Any

from vdcore.training.recurrent_state import (
    RecurrentState,
    recurrent_links,
    reset_states,
)
from vdcore.training.updater import StandardUpdater


class BPTTUpdater(StandardUpdater):
    """Updates a recurrent model by truncated backpropagation through time.

    An iteration takes one window, such as
    :class:`vdcore.iterators.ParallelSequentialIterator` gives, and calls the loss once:
    gradients go back to the beginning of the window, and the states that the recurrent
    links end it in are what they begin the next one with. A loss with a KL term adds it
    once a window. (In the Chainer original each step of a window is a call, and so the
    KL is added 35 times.)

    Parameters
    ----------
    iterator, optimizer, converter, device, loss_func, non_finite, graph
        As of :class:`StandardUpdater`. Batches go to the loss as they are, such as
        tokens and those after them, each of shape (length, batch). A window that is
        skipped leaves the states as they were.
    reset_each_epoch : bool
        Begin each epoch with no state, as the text does that it is tested on. Without,
        as in the Chainer original, a network can come to rely on units that were set
        in the first epoch and never change again.

    Raises
    ------
    TypeError
        If the model has no recurrent link.

    Notes
    -----
    Williams and Peng, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories" (1990).
    """

    def __init__(
        self, *args: Any, reset_each_epoch: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.reset_each_epoch = reset_each_epoch
        model = self._target("main")
        if not any(True for _ in recurrent_links(model)):
            message = (
                "BPTTUpdater: the model must have a link with a state, such as LSTM, "
                f"and {type(model).__name__} has none; use StandardUpdater"
            )
            raise TypeError(message)

    def update(self) -> None:
        """Do one iteration.

        Raises
        ------
        MemoryError
            As :meth:`StandardUpdater.update`.
        """
        super().update()
        if self.is_new_epoch and self.reset_each_epoch:
            reset_states(self._target("main"), in_place=self.graph)

    def update_core(self) -> None:
        """Update the model on the next window.

        Raises
        ------
        NonFiniteLossError
            If the loss is NaN or infinite, unless `non_finite` is "skip".
        """
        before = RecurrentState(self._target("main"))
        super().update_core()
        if self.graph:
            before.take_place()
