"""Reverse-mode differentiation of array-API code on any registered array library.

The tape is that of HIPS autograd (``autograd.extend``); the differentiable functions
are our own (:mod:`vdcore.traced_namespace`), because ``autograd.numpy`` mixes NumPy
into the gradients of other libraries and turns float32 gradients into float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy
from autograd.core import VJPNode, add_outgrads
from autograd.extend import Box, VSpace, defvjp_argnums, primitive
from autograd.tracer import new_box, toposort, trace_stack

from vdcore.arrays import (
    Array,
    array_namespace,
    is_array,
    is_traced,
    library_name,
    untraced,
)
from vdcore.kernels.gradients import add_each
from vdcore.kernels.table import load_backend

__all__ = [
    "TracedArray",
    "attach_gradients",
    "defvjp_argnums",
    "primitive",
    "register_array_type",
    "value_and_gradients",
]


class TracedArray(Box):
    """An array recorded on the tape; operators go to our differentiable functions.

    NumPy arrays keep autograd's own box, whose operators are equivalent.
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy and CuPy operands defer to our reflected operators
    __array_priority__ = 1000
    __hash__ = object.__hash__

    shape = property(lambda self: self._value.shape)
    ndim = property(lambda self: self._value.ndim)
    size = property(lambda self: self._value.size)
    dtype = property(lambda self: self._value.dtype)
    device = property(lambda self: self._value.device)
    T = property(lambda self: array_namespace(self).matrix_transpose(self))

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return array_namespace(self)

    def __getitem__(self, index: Any) -> Any:
        return array_namespace(self).getitem(self, index)

    def __neg__(self) -> Any:
        return array_namespace(self).negative(self)

    def __abs__(self) -> Any:
        return array_namespace(self).abs(self)

    def __gt__(self, other: Any) -> Any:
        return self._value > untraced(other)

    def __ge__(self, other: Any) -> Any:
        return self._value >= untraced(other)

    def __lt__(self, other: Any) -> Any:
        return self._value < untraced(other)

    def __le__(self, other: Any) -> Any:
        return self._value <= untraced(other)


def _operator(name: str) -> tuple[Callable, Callable]:
    def forward(self: TracedArray, other: Any) -> Any:
        return getattr(array_namespace(self), name)(self, other)

    def reflected(self: TracedArray, other: Any) -> Any:
        return getattr(array_namespace(self), name)(other, self)

    return forward, reflected


for _symbol, _name in (
    ("add", "add"),
    ("sub", "subtract"),
    ("mul", "multiply"),
    ("truediv", "divide"),
    ("matmul", "matmul"),
    ("pow", "pow"),
):
    _forward, _reflected = _operator(_name)
    setattr(TracedArray, f"__{_symbol}__", _forward)
    setattr(TracedArray, f"__r{_symbol}__", _reflected)


class ArrayVSpace(VSpace):
    """The vector space of arrays of one shape, dtype and library."""

    __slots__ = ("dtype", "shape", "xp")

    def __init__(self, value: Array) -> None:
        self.shape = tuple(value.shape)
        self.dtype = value.dtype
        self.xp = array_namespace(value)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def zeros(self) -> Array:
        return self.xp.zeros(self.shape, dtype=self.dtype)

    def ones(self) -> Array:
        return self.xp.ones(self.shape, dtype=self.dtype)

    def _inner_prod(self, x: Array, y: Array) -> Array:
        return self.xp.sum(x * y)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ArrayVSpace)
            and (self.shape, self.dtype) == (other.shape, other.dtype)
            and self.xp is other.xp
        )

    __hash__ = None  # type: ignore[assignment]


def register_array_type(cls: type) -> None:
    """Make arrays of exactly this class differentiable (not its subclasses).

    NumPy's is registered already. A backend calls this for its library.
    """
    TracedArray.register(cls)
    VSpace.register(cls, ArrayVSpace)


def value_and_gradients(
    function: Callable[..., Array], arrays: Sequence[Array]
) -> tuple[Array, list[Array]]:
    """Evaluate a scalar function of arrays and its gradient by each.

    Parameters
    ----------
    function : callable
        Called with the traced arrays; returns a 0-d array.
    arrays : sequence of array
        Floating arrays of one registered library.

    Returns
    -------
    value : array, shape ()
    gradients : list of array
        Shapes and dtypes of `arrays`; zeros for arrays that were not used.

    Raises
    ------
    TypeError
        If an array's class is not registered.
    ValueError
        If the result is not 0-d, or depends on none of the arrays.

    Examples
    --------
    >>> import numpy
    >>> from vdcore.arrays import array_namespace
    >>> x = numpy.asarray([1.0, 2.0], dtype=numpy.float32)
    >>> value_and_gradients(lambda x: array_namespace(x).sum(x * x), [x])
    (np.float32(5.0), [array([2., 4.], dtype=float32)])
    """
    with trace_stack.new_trace() as trace:
        roots = [VJPNode.new_root() for _ in arrays]
        boxes = [
            _box(array, trace, root) for array, root in zip(arrays, roots, strict=True)
        ]
        end = function(*boxes)
    if not is_traced(end) or end._trace != trace:
        message = (
            "value_and_gradients: `function` must return a value computed from the "
            f"arrays given to it with vdcore functions, got {end!r} which does not "
            "depend on them; take no array out of the tape inside `function`"
        )
        raise ValueError(message)
    value = end._value
    if tuple(value.shape) != ():
        message = (
            "value_and_gradients: `function` must return a 0-d array, got shape "
            f"{tuple(value.shape)}; reduce it with a sum or mean"
        )
        raise ValueError(message)
    gradients = _backward(end._node, array_namespace(value).ones_like(value), roots)
    return value, [
        array_namespace(array).zeros_like(array) if gradient is None else gradient
        for array, gradient in zip(arrays, gradients, strict=True)
    ]


def _box(array: Array, trace: int, root: VJPNode) -> Box:
    if type(array) not in Box.type_mappings:
        load_backend(library_name(type(array)))  # which registers the library's arrays
    if type(array) not in Box.type_mappings:
        cls = type(array)
        message = (
            f"value_and_gradients: arrays of {cls.__module__}.{cls.__qualname__} are "
            "not registered with the tape; call vdcore.autodiff.register_array_type"
        )
        raise TypeError(message)
    return new_box(array, trace, root)


def _backward(end: VJPNode, seed: Array, roots: list[VJPNode]) -> list[Array | None]:
    token = _seed.set(seed)
    try:
        return _backpropagated(end, seed, roots)
    finally:
        _seed.reset(token)


# The gradient of the loss by itself, 1: to compare a value would be to wait for a GPU.
_seed: ContextVar[Any] = ContextVar("vdcore_seed", default=None)


def _backpropagated(
    end: VJPNode, seed: Array, roots: list[VJPNode]
) -> list[Array | None]:
    outgrads = {end: (seed, False)}
    reaching: dict[VJPNode, list[Array]] = {root: [] for root in roots}
    if end in reaching:
        reaching[end].append(seed)
    for node in toposort(end):
        if node in reaching:
            continue
        gradient = outgrads.pop(node)[0]
        for parent, ingrad in zip(node.parents, node.vjp(gradient), strict=True):
            if parent in reaching:
                if not is_array(ingrad):  # what indexing NumPy's own box leads to
                    ingrad = add_outgrads(None, ingrad)[0]
                reaching[parent].append(ingrad)
            else:
                outgrads[parent] = add_outgrads(outgrads.get(parent), ingrad)
        node.vjp = None  # frees what the closure kept as soon as it is used
    return _summed(list(reaching.values()))


def _summed(gradients: list[list[Array]]) -> list[Array | None]:
    """Sums of what reaches each root: pairs of all roots at a time."""
    totals = [None if not several else several[0] for several in gradients]
    for position in range(1, max(map(len, gradients), default=0)):
        places = [k for k, several in enumerate(gradients) if len(several) > position]
        first = [totals[k] for k in places]
        second = [gradients[k][position] for k in places]
        for k, total in zip(places, add_each(first, second), strict=True):
            totals[k] = total
    return totals


@primitive
def _known_gradients(value: Array, gradients: Sequence[Array], *inputs: Array) -> Array:
    return value


def _known_gradients_vjp(argnums, value, args, kwargs):
    gradients = [args[1][argnum - 2] for argnum in argnums]

    def vjp(g: Array) -> list[Array]:
        # The value is most often a term of the loss itself: spare a pass over memory.
        if g is _seed.get() or (
            isinstance(g, numpy.generic | numpy.ndarray) and g == 1
        ):
            return gradients
        return [gradient * g for gradient in gradients]

    return vjp


defvjp_argnums(_known_gradients, _known_gradients_vjp)


def attach_gradients(
    value: Array, inputs: Sequence[Array], gradients: Sequence[Array]
) -> Array:
    """Give a 0-d value, computed off the tape, its gradients by traced inputs.

    Lets one fused kernel return a value and its gradients from one pass.

    Parameters
    ----------
    value : array, shape ()
    inputs : sequence of array
        The arrays, traced or not, that `value` was computed from.
    gradients : sequence of array
        d value / d input, each of its input's shape. Not differentiable further.
    """
    return _known_gradients(value, tuple(gradients), *inputs)
