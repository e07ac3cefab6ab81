"""Links made of links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vdcore.link import Link


class Chain(Link):
    """A link with named child links.

    Links assigned as attributes inside ``with self.init_scope():`` are registered::

        class MLP(Chain):
            def __init__(self):
                super().__init__()
                with self.init_scope():
                    self.l1 = L.Linear(784, 100)
                    self.l2 = L.Linear(100, 10)

            def forward(self, x):
                return self.l2(F.relu(self.l1(x)))
    """

    def __init__(self) -> None:
        super().__init__()
        self._child_names: list[str] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_in_init_scope", False) and isinstance(value, Link):
            value.name = name
            if name not in self._child_names:
                self._child_names.append(name)
        super().__setattr__(name, value)

    def __getitem__(self, name: str) -> Link:
        if name not in self._child_names:
            known = ", ".join(self._child_names) or "none"
            message = (
                f"{type(self).__name__}: no child link {name!r}, there are {known}"
            )
            raise KeyError(message)
        return getattr(self, name)

    def children(self) -> Iterator[Link]:
        """Links held directly by this one, in order of registration."""
        return (getattr(self, name) for name in self._child_names)

    def replace_child(self, name: str, link: Link) -> None:
        """Put another link in the place of a child."""
        with self.init_scope():
            setattr(self, name, link)


class ChainList(Link):
    """A link with numbered child links.

    Parameters
    ----------
    *links : Link
    """

    def __init__(self, *links: Link) -> None:
        super().__init__()
        self._children: list[Link] = []
        for link in links:
            self.add_link(link)

    def add_link(self, link: Link) -> None:
        """Append a child link."""
        link.name = str(len(self._children))
        self._children.append(link)

    def children(self) -> Iterator[Link]:
        """Links held directly by this one, in order."""
        return iter(self._children)

    def replace_child(self, name: str, link: Link) -> None:
        """Put another link in the place of a child."""
        link.name = name
        self._children[int(name)] = link

    def __getitem__(self, index: int) -> Link:
        return self._children[index]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Link]:
        return iter(self._children)


class Sequential(ChainList):
    """Links and functions called one after the other.

    Parameters
    ----------
    *layers : Link or callable
        For example ``Sequential(L.Linear(784, 100), F.relu, L.Linear(100, 10))``.
    """

    def __init__(self, *layers: Link | Callable) -> None:
        super().__init__()
        self._layers: list[str | Callable] = []
        for layer in layers:
            self.append(layer)

    def append(self, layer: Any) -> None:
        """Add a layer at the end."""
        if isinstance(layer, Link):
            self.add_link(layer)
            self._layers.append(str(layer.name))
        elif callable(layer):
            self._layers.append(layer)
        else:
            message = (
                "Sequential: a layer must be a Link or a callable, "
                f"got {type(layer).__name__}"
            )
            raise TypeError(message)

    def forward(self, x: Any) -> Any:
        """Apply all layers in turn."""
        for layer in self._layers:
            x = self[int(layer)](x) if isinstance(layer, str) else layer(x)
        return x
