"""States of recurrent links: what is carried from one window of a text to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vdcore.carried_state import CarriedState
from vdcore.link import Link
from vdcore.optimizers import NonFiniteLossError


class RecurrentState(CarriedState):
    """The states that a model is in, and the memory that they lie in."""

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
    """The links of a model that carry a state of their own."""
    return (link for link in model.links() if link.state_names)


def reset_states(model: Link, in_place: bool = False) -> None:
    """Let recurrent links begin anew; `in_place`: with zeros where the states lie."""
    for link in recurrent_links(model):
        if not in_place:
            link.reset_state()
            continue
        for name in link.state_names:
            state = getattr(link, name)
            if state is not None:
                state[...] = 0


@contextmanager
def fresh_state(model: Link) -> Iterator[None]:
    """Let recurrent links begin anew, and put their states back afterwards."""
    before = CarriedState(model)
    reset_states(model)
    try:
        yield
    finally:
        before.restore()


@contextmanager
def restoring_state(model: Link) -> Iterator[None]:
    """Put states back if the loss in the ``with`` block is not finite."""
    before = CarriedState(model)
    try:
        yield
    except NonFiniteLossError:
        before.restore()
        raise


def _same_kind(old: Any, new: Any) -> bool:
    if old is None or new is None:
        return False
    return (old.shape, old.dtype) == (new.shape, new.dtype)
