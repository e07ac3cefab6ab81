"""Record which layers a model's forward runs, by running it on a placeholder.

The Python code of a chain's ``forward`` is the only place that says how its links are
joined. :func:`record` runs it once on a :class:`Recorded`, which links and activation
functions answer by noting themselves instead of computing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from vdcore.configuration import using_config

if TYPE_CHECKING:
    from vdcore.link import Link

Shape = tuple[int, ...] | None  # of one example; None while it is not known
Leaves = Mapping[Any, Callable[[Any, Shape], Shape]]
Rule = Callable[..., tuple[Mapping[str, Any], Shape]]


class Step(NamedTuple):
    """One step of a recorded forward.

    Attributes
    ----------
    name : str
        Name of the function, or of the link's class.
    path : str or None
        Path of the link, such as ``"/l1"``.
    link : Link or None
    options : dict
        What the function was told besides its array.
    """

    name: str
    path: str | None = None
    link: Link | None = None
    options: Mapping[str, Any] = MappingProxyType({})


def record(
    model: Link,
    leaves: Leaves,
    in_shape: Shape = None,
) -> list[Step]:
    """Record the steps of a model whose layers follow one another.

    Parameters
    ----------
    model : Link
    leaves : mapping
        From the classes of links that become steps to functions that take such a link
        and the shape of one example, and return the shape of its output. A subclass
        with its parent's ``forward`` counts as its parent.
    in_shape : tuple of int, optional
        Shape of one input example, for models that ask for the shape of their input.

    Returns
    -------
    list of Step
        Links of other classes are not steps: what they run is. A link whose forward
        computes in a way of its own, but the same as other links one after the other,
        may have a method ``as_links()`` that returns those.

    Raises
    ------
    TypeError
        If a link has parameters, is not in `leaves` and holds no links that are; if the
        model branches, or computes anything that is not recordable. The text names the
        path and class of the link.
    """
    recording = _Recording(model, leaves)
    with using_config("train", False):
        output = model(Recorded(recording, in_shape))
    if not isinstance(output, Recorded):
        recording.refuse(f"returns {type(output).__name__}, not activations")
    recording.check_latest(output)
    return recording.steps


def record_link(link: Link, args: tuple[Any, ...]) -> Any:
    """Note the call of a link, or run its ``forward`` if it only holds other links."""
    recording = next(x._recording for x in args if isinstance(x, Recorded))
    return recording.call(link, args)


def recordable(name: str, rule: Rule | None = None) -> Callable[[Callable], Callable]:
    """Decorate a function whose first argument is an array.

    Called on a :class:`Recorded`, the function becomes the step `name`.

    Parameters
    ----------
    name : str
    rule : callable, optional
        From the shape of one example, which may be None, and the function's other
        arguments to the step's options and the shape of the result. Default: no
        options, and the same shape.
    """

    def decorate(function: Callable) -> Callable:
        @functools.wraps(function)
        def recorded(x: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(x, Recorded):
                return function(x, *args, **kwargs)
            shape = x._example_shape
            if rule is None:
                return x._recording.append(x, Step(name), shape)
            options, shape = rule(shape, *args, **kwargs)
            return x._recording.append(x, Step(name, options=options), shape)

        return recorded

    return decorate


class Recorded:
    """Stands for a batch of activations; knows its shape, with a batch of 1.

    Everything except links and recordable functions refuses it with an error that
    names the link in whose forward it happened.
    """

    def __init__(self, recording: _Recording, shape: Shape) -> None:
        self._recording = recording
        self._example_shape = shape
        self._position = len(recording.steps)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a batch of one example."""
        if self._example_shape is None:
            self._recording.refuse(
                "asks for the shape of its input; pass `in_shape`, the shape of one "
                "example, to to_cpu_sparse"
            )
        return (1, *self._example_shape)

    @property
    def ndim(self) -> int:
        """Number of axes, the batch included."""
        return len(self.shape)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        self._recording.refuse(f"uses `.{name}` of its activations")


def _refusing(name: str) -> Callable:
    def method(self: Recorded, *args: Any, **kwargs: Any) -> NoReturn:
        what = getattr(args[0], "__name__", name) if name in _HOOKS else name
        self._recording.refuse(f"uses `{what}` on its activations")

    return method


_HOOKS = (
    "__array_ufunc__",
    "__array_function__",
)  # their first argument: what is called
_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
_OTHER = (
    *("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge", "array"),
    *("getitem", "setitem", "iter", "len", "bool", "int", "float", "contains"),
)
for _name in (*_BINARY, *(f"r{_name}" for _name in _BINARY), *_OTHER):
    setattr(Recorded, f"__{_name}__", _refusing(f"__{_name}__"))
for _name in _HOOKS:
    setattr(Recorded, _name, _refusing(_name))


class _Recording:
    """The steps so far, and the links whose forward is running."""

    def __init__(self, model: Link, leaves: Leaves) -> None:
        self.steps: list[Step] = []
        self.leaves = leaves
        self.paths = {id(link): path for path, link in model.namedlinks()}
        self.running = [model]
        self.kept: list[Link] = []  # or another link could get the id of one of these

    def call(self, link: Link, args: tuple[Any, ...]) -> Any:
        if hasattr(link, "as_links") and len(args) == 1:
            (x,) = args
            for equivalent in link.as_links():
                self.paths.setdefault(id(equivalent), self.paths.get(id(link), "/"))
                self.kept.append(equivalent)
                x = self.call(equivalent, (x,))
            return x
        shape_of_output = next(
            (
                rule
                for leaf, rule in self.leaves.items()
                if isinstance(link, leaf) and type(link).forward is leaf.forward
            ),
            None,
        )
        self.running.append(link)
        if shape_of_output is not None and len(args) == 1:
            (x,) = args
            path = self.paths.get(id(link), "/")
            step = Step(type(link).__name__, path, link)
            output = self.append(x, step, shape_of_output(link, x._example_shape))
        elif next(link.children(), None) or not next(link.params(), None):
            output = link.forward(*args)
        else:
            known = ", ".join(sorted(leaf.__name__ for leaf in self.leaves))
            self.refuse(f"is no link that a sparse model can run; it can run {known}")
        self.running.pop()
        return output

    def append(self, x: Recorded, step: Step, shape: Shape) -> Recorded:
        self.check_latest(x)
        self.steps.append(step)
        return Recorded(self, shape)

    def check_latest(self, x: Recorded) -> None:
        if x._position != len(self.steps):
            self.refuse(
                "uses activations that are not those of the step before: its layers "
                "branch"
            )

    def refuse(self, what: str) -> NoReturn:
        link = self.running[-1]
        message = (
            f"to_cpu_sparse: link `{self.paths.get(id(link), '?')}` "
            f"({type(link).__name__}) {what}. A sparse model is a sequence of linear "
            "and convolution layers with batch normalisation, pooling, dropout, relu, "
            "tanh, sigmoid, softmax or flatten between them; or of an embedding, "
            "recurrent and linear layers"
        )
        raise TypeError(message)
