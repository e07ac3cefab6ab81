"""Arrays that links carry from one call to the next, while gradients are taken."""

from __future__ import annotations

from vdcore.arrays import is_traced, untraced
from vdcore.link import Link


class CarriedState:
    """The states, by their ``state_names``, that a link and those below it are in.

    A state made on the tape must not outlive it: it would hold the whole trace, and the
    next update would go on from it.
    """

    def __init__(self, link: Link) -> None:
        self._states = [
            (each, name, getattr(each, name))
            for each in link.links()
            for name in each.state_names
        ]

    def restore(self) -> None:
        """Put the links back into these states."""
        for link, name, value in self._states:
            setattr(link, name, value)

    def detach(self) -> None:
        """Take the states that the links are in now off the tape."""
        for link, name, _ in self._states:
            value = getattr(link, name)
            if is_traced(value):
                # A copy: most often it is a view, of the states of all steps.
                setattr(link, name, untraced(value) + 0)
