"""States of recurrent links: what is carried from one window of a text to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vdcore.arrays import Array
from vdcore.link import Link
from vdcore.optimizers import NonFiniteLossError

STATES = ("c", "h")  # cell and hidden state, as Chainer names them


class RecurrentState:
    """The states that the recurrent links of a model are in.

    Parameters
    ----------
    model : Link
        Recurrent are those of its links that have ``reset_state`` and a state ``h``.
    """

    def __init__(self, model: Link) -> None:
        self._states = [
            (link, name, getattr(link, name))
            for link in recurrent_links(model)
            for name in STATES
            if hasattr(link, name)
        ]

    def restore(self) -> None:
        """Put the links back into these states."""
        for link, name, state in self._states:
            setattr(link, name, state)

    def take_place(self) -> None:
        """Let the states that the links are in now lie where these ones did.

        A recorded step finds them there each time.
        """
        for link, name, state in self._states:
            new = getattr(link, name)
            if _same_kind(state, new):
                state[...] = new
                setattr(link, name, state)


def recurrent_links(model: Link) -> Iterator[Any]:
    """The links of a model that have a state of their own."""
    for link in model.links():
        if hasattr(link, "reset_state") and hasattr(link, "h"):
            yield link


@contextmanager
def fresh_state(model: Link) -> Iterator[None]:
    """Let recurrent links begin anew, and put their states back afterwards."""
    before = RecurrentState(model)
    for link in recurrent_links(model):
        link.reset_state()
    try:
        yield
    finally:
        before.restore()


@contextmanager
def restoring_state(model: Link) -> Iterator[None]:
    """Put states back if the loss in the ``with`` block is not finite."""
    before = RecurrentState(model)
    try:
        yield
    except NonFiniteLossError:
        before.restore()
        raise


def _same_kind(old: Array | None, new: Array | None) -> bool:
    if old is None or new is None:
        return False
    return (old.shape, old.dtype) == (new.shape, new.dtype)
