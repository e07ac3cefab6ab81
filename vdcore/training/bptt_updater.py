"""Truncated backpropagation through time: one window of a text an iteration."""

from __future__ import annotations

from typing import Any

from vdcore.training.recurrent_state import RecurrentState, recurrent_links
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

    Raises
    ------
    TypeError
        If the model has no recurrent link.

    Notes
    -----
    Williams and Peng, "An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories" (1990).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model = self._target("main")
        if not any(True for _ in recurrent_links(model)):
            message = (
                "BPTTUpdater: the model must have a link with a state, such as LSTM, "
                f"and {type(model).__name__} has none; use StandardUpdater"
            )
            raise TypeError(message)

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
