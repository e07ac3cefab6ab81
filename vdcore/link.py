"""A layer: parameters and a forward computation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from vdcore import recording
from vdcore.arrays import is_array, to_device
from vdcore.parameter import Parameter

Observer = Callable[["Link", tuple, Any], None]
_observers: ContextVar[tuple[Observer, ...]] = ContextVar("link_observers", default=())


@contextmanager
def observe_calls(callback: Observer) -> Iterator[None]:
    """Call ``callback(link, args, output)`` after each link call in the block."""
    token = _observers.set((*_observers.get(), callback))
    try:
        yield
    finally:
        _observers.reset(token)


class Link:
    """Base of layers and models: owns parameters, computes in ``forward``.

    Parameters assigned as attributes inside ``with self.init_scope():`` are
    registered, as in Chainer::

        class Scale(Link):
            def __init__(self, size):
                super().__init__()
                with self.init_scope():
                    self.W = Parameter(initializers.Constant(1), (size,))

            def forward(self, x):
                return x * self.W.array

    What is no parameter but belongs to the model, such as running statistics, is
    registered by :meth:`add_persistent`.

    Attributes
    ----------
    live_attributes : tuple of str
        Numbers that change from step to step and are read through
        :func:`vdcore.replay.live`.
    state_names : tuple of str
        Attributes that hold arrays carried from one call to the next, such as the
        hidden state of a recurrent layer; None where there is nothing to carry. They
        are moved with the parameters, belong to the state of a training, are taken off
        the tape after each update, and put back where one fails.
    """

    live_attributes: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.name: str | None = None
        self._parameter_names: list[str] = []
        self._persistent_names: list[str] = []
        self._in_init_scope = False
        self._device: Any = None  # that of arrays that are still to be loaded

    @contextmanager
    def init_scope(self) -> Iterator[None]:
        """Register what is assigned to attributes inside the ``with`` block.

        Raises
        ------
        RuntimeError
            If ``super().__init__()`` has not been called.
        """
        self._check_initialized()
        outer = self._in_init_scope
        self._in_init_scope = True
        try:
            yield
        finally:
            self._in_init_scope = outer

    def _check_initialized(self) -> None:
        if "_in_init_scope" not in self.__dict__:
            name = type(self).__name__
            message = (
                f"{name}: the link has not been set up; call super().__init__() at the "
                f"beginning of {name}.__init__"
            )
            raise RuntimeError(message)

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_in_init_scope", False) and isinstance(value, Parameter):
            value.name = name
            if name not in self._parameter_names:
                self._parameter_names.append(name)
        super().__setattr__(name, value)

    def add_persistent(self, name: str, value: Any) -> None:
        """Set an attribute that is saved and moved with the parameters.

        Parameters
        ----------
        name : str
        value : array, number or what JSON can hold
            None where it is not known yet; it must be before it can be saved.

        Raises
        ------
        AttributeError
            If the link has such an attribute already.
        """
        if hasattr(self, name):
            message = (
                f"add_persistent: {type(self).__name__} has an attribute {name!r} "
                "already; to save and move that one use register_persistent"
            )
            raise AttributeError(message)
        setattr(self, name, value)
        self.register_persistent(name)

    def register_persistent(self, name: str) -> None:
        """Have an attribute of the link saved and moved with the parameters.

        Raises
        ------
        AttributeError
            If the link has no such attribute.
        """
        self._check_initialized()
        if not hasattr(self, name):
            message = (
                f"register_persistent: {type(self).__name__} has no attribute "
                f"{name!r}; set it first, or use add_persistent"
            )
            raise AttributeError(message)
        if name not in self._persistent_names:
            self._persistent_names.append(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``, or note the call where a forward is being recorded."""
        if any(isinstance(x, recording.Recorded) for x in args):
            return recording.record_link(self, args)
        output = self.forward(*args, **kwargs)
        for observer in _observers.get():
            observer(self, args, output)
        return output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; defined by each link."""
        message = f"{type(self).__name__}: forward is not defined for this link"
        raise RuntimeError(message)

    def children(self) -> Iterator[Link]:
        """Links held directly by this one."""
        return iter(())

    def params(self) -> Iterator[Parameter]:
        """All parameters of this link and the links below it."""
        return (parameter for _, parameter in self.namedparams())

    def namedparams(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs of a path such as ``"/l1/W"`` and a parameter."""
        for path, link in self.namedlinks():
            prefix = path.rstrip("/")
            for name in link._parameter_names:
                yield f"{prefix}/{name}", getattr(link, name)

    def namedpersistents(self) -> Iterator[tuple[str, Any]]:
        """Pairs of a path such as ``"/bn1/avg_mean"`` and a persistent value."""
        for path, link in self.namedlinks():
            prefix = path.rstrip("/")
            for name in link._persistent_names:
                yield f"{prefix}/{name}", getattr(link, name)

    def links(self) -> Iterator[Link]:
        """Yield the link itself and all below it."""
        return (link for _, link in self.namedlinks())

    def namedlinks(self) -> Iterator[tuple[str, Link]]:
        """Pairs of a path such as ``"/l1"`` and a link; this one is ``"/"``.

        A link that is held twice is visited once.
        """
        return self._walk("", set())

    def _walk(self, path: str, visited: set[int]) -> Iterator[tuple[str, Link]]:
        self._check_initialized()
        if id(self) not in visited:
            visited.add(id(self))
            yield path or "/", self
            for child in self.children():
                yield from child._walk(f"{path}/{child.name}", visited)

    def cleargrads(self) -> None:
        """Forget all gradients."""
        for parameter in self.params():
            parameter.grad = None

    def to_device(self, device: Any) -> Link:
        """Move parameters, persistent arrays and states of the link and those below it.

        See :func:`vdcore.arrays.to_device`. Returns self.
        """
        for link in self.links():
            link._device = device
            for name in link._parameter_names:
                getattr(link, name).to_device(device)
            for name in (*link._persistent_names, *link.state_names):
                value = getattr(link, name)
                if is_array(value):
                    setattr(link, name, to_device(value, device))
        return self

    def to_gpu(self, device: int = 0) -> Link:
        """Move all that :meth:`to_device` moves to a GPU. Returns self."""
        return self.to_device(device)

    def to_cpu(self) -> Link:
        """Move all that :meth:`to_device` moves to NumPy arrays. Returns self."""
        return self.to_device("cpu")

    def copy(self) -> Link:
        """An independent copy, generators included."""
        return copy.deepcopy(self)

    def serialize(self, serializer: Any) -> None:
        """Read or write parameters and persistents of the link and those below it."""
        for name in self._parameter_names:
            parameter = getattr(self, name)
            self._check_known("parameter", name, parameter.array, serializer)
            parameter.array = self._placed(serializer(name, parameter.array))
        for name in self._persistent_names:
            value = getattr(self, name)
            self._check_known("persistent", name, value, serializer)
            setattr(self, name, self._placed(serializer(name, value)))
        for child in self.children():
            child.serialize(serializer[child.name])

    def _placed(self, value: Any) -> Any:
        return to_device(value, self._device) if is_array(value) else value

    def _check_known(self, kind: str, name: str, value: Any, serializer: Any) -> None:
        if serializer.is_writer and value is None:
            message = (
                f"serialize: the shape of {kind} {name!r} of link {self.name!r} is not "
                "known yet; call the model on one batch first"
            )
            raise RuntimeError(message)

    def serialize_training_state(self, serializer: Any) -> None:
        """Read or write what only a continued training needs: states, by default."""
        for name in self.state_names:
            setattr(self, name, self._placed(serializer(name, getattr(self, name))))
        for child in self.children():
            child.serialize_training_state(serializer[child.name])
