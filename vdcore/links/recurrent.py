"""What recurrent layers have in common: two linear layers, and a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import numpy

from vdcore import functions as F
from vdcore import initializers
from vdcore.arrays import (
    Array,
    array_namespace,
    asarray_like,
    check_array,
    is_traced,
    untraced,
)
from vdcore.chain import Chain
from vdcore.configuration import config
from vdcore.functions.linear import check_dtypes
from vdcore.links.linear import Linear
from vdcore.links.variational_link import VariationalLink


class Blocks(initializers.Initializer):
    """Equal blocks along an axis, one for each gate, each made by an initializer.

    Orthogonal weights, for one, are so within a gate.
    """

    def __init__(self, each: list[initializers.Initializer], axis: int = 0) -> None:
        super().__init__(each[0].dtype)
        self.each = each
        self.axis = axis

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        block = list(shape)
        block[self.axis] //= len(self.each)
        blocks = [initializer(tuple(block)) for initializer in self.each]
        return numpy.concatenate(blocks, axis=self.axis)


class RecurrentLink(Chain, ABC):
    """Base of layers that carry a state from step to step, and from call to call.

    One of its child links, `upward`, maps the input to the gates, the other, `lateral`,
    the hidden state. Either may be variational: ``to_variational_dropout`` reaches
    them. A call gets one step of a batch, or a sequence, of which the input products
    are one matrix product and the steps one fused function.

    Attributes
    ----------
    upward, lateral : Linear
    h : array, shape (batch, out_size), or None
        Hidden state after the last call; None is 0. During an update it is traced, so
        that gradients go from call to call; they end where the update begins (truncated
        backpropagation through time).
    noise : {"weights", "activations"}
        How a child that is variational gets its noise in training; see
        :class:`VariationalDropoutLSTM`.
    """

    state_names: tuple[str, ...] = ("h",)
    gates = 1  # blocks of rows of the weights
    noise = "weights"
    # Multipliers of variational layers.
    unit_scale: Any = None
    gate_scale: Any = None

    upward: Any
    lateral: Any
    h: Any

    def _setup(
        self,
        in_size: int | None,
        out_size: int | None,
        upward_init: Any,
        lateral_init: Any,
        biases: list[Any],
        lateral_nobias: bool = True,
    ) -> None:
        """Make children and state; `biases` are initial ones, one a gate."""
        if out_size is None:
            in_size, out_size = None, in_size
        for argument, size in {"in_size": in_size, "out_size": out_size}.items():
            if (size is not None or argument == "out_size") and (
                not isinstance(size, int) or size < 1
            ):
                message = (
                    f"{type(self).__name__}: `{argument}` must be a positive integer, "
                    f"got {size!r}"
                )
                raise ValueError(message)
        assert out_size is not None
        self.out_size = out_size
        default = initializers.LeCunNormal()
        dtype = initializers.get_initializer(upward_init, default).dtype
        default = initializers.LeCunNormal(dtype=dtype)
        zero = initializers.Constant(0, dtype)
        bias = Blocks([initializers.get_initializer(value, zero) for value in biases])
        lateral = self._by_gate(lateral_init, default)
        with self.init_scope():
            self._set_upward(in_size, upward_init, default, bias)
            rows = self.gates * out_size
            self.lateral = Linear(out_size, rows, lateral_nobias, lateral)
        self.reset_state()

    def _set_upward(
        self,
        in_size: int | None,
        weights: Any,
        default: initializers.Initializer,
        bias: initializers.Initializer,
    ) -> None:
        """Make what maps the input to the gates."""
        rows = self.gates * self.out_size
        weights = self._by_gate(weights, default)
        self.upward = Linear(in_size, rows, False, weights, bias)

    def _by_gate(
        self, value: Any, default: initializers.Initializer, axis: int = 0
    ) -> initializers.Initializer:
        """An initializer that makes each gate by itself; a given array is whole."""
        made = initializers.get_initializer(value, default)
        if isinstance(value, numpy.ndarray):
            return made
        return Blocks([made] * self.gates, axis)

    @property
    def in_size(self) -> int | None:
        """Numbers per example and step; None until the first call if not given."""
        return self.upward.in_size

    def reset_state(self) -> None:
        """Forget the state: the next call begins with zeros."""
        for name in self.state_names:
            setattr(self, name, None)

    def _set_state(self, **state: Array) -> None:
        """Begin the next call with copies of these arrays."""
        for name, array in state.items():
            check_array(f"{type(self).__name__}.set_state", name, array)
        shapes = {name: tuple(array.shape) for name, array in state.items()}
        batch = next(iter(shapes.values()))[:1]
        for name, shape in shapes.items():
            if len(shape) != 2 or shape != (*batch, self.out_size) or 0 in shape:
                message = (
                    f"{type(self).__name__}.set_state: `{name}` must have shape "
                    f"(batch, {self.out_size}), the same batch in all, got {shape}"
                )
                raise ValueError(message)
        W = untraced(self.lateral.W.array)
        raw = {name: untraced(array) for name, array in state.items()}
        check_dtypes(f"{type(self).__name__}.set_state", W, **raw)
        for name, array in state.items():
            # A traced one, such as an encoder's state, stays on the tape.
            value = array if is_traced(array) else asarray_like(array, W) + 0
            setattr(self, name, value)

    def _call(self, x: Array, given: dict[str, Array | None]) -> tuple[Array, Any]:
        """Output for a step or a sequence, and the state after it, by name."""
        is_sequence = self._check_input(x)
        if not self.upward.W.is_initialized:
            self.upward.initialize_params(x.shape[-1], like=x)
        xp = array_namespace(x)
        xs = x if is_sequence else xp.expand_dims(x, axis=0)
        stateless = any(array is not None for array in given.values())
        state = given if stateless else {k: getattr(self, k) for k in given}
        state = self._filled(state, xs.shape[1], x, stateless)
        hs, state = self._run(xs, state)
        if not stateless:
            for name, array in state.items():
                # Off the tape a copy, for it is a view of the states of all steps.
                setattr(self, name, array if is_traced(array) else array + 0)
        return (hs if is_sequence else hs[0, ...]), state

    def _check_input(self, x: Array) -> bool:
        """Whether `x` is a sequence, not one step; raise if it is neither."""
        check_array(type(self).__name__, "x", x)
        shape = tuple(x.shape)
        sizes = self._input_sizes
        axes = len(shape) - len(sizes)  # of batch, and time if there is one
        expected = shape[axes:] if None in sizes else sizes
        if axes not in (1, 2) or 0 in shape or shape[axes:] != expected:
            names = ("in_size" if size is None else str(size) for size in sizes)
            one = ", ".join(("batch", *names))
            message = (
                f"{type(self).__name__}: `x` must have shape ({one}), for one step, or "
                f"(time, {one}), none of them 0, got {shape}"
            )
            raise ValueError(message)
        return axes == 2

    @property
    def _input_sizes(self) -> tuple[int | None, ...]:
        """Of the axes of an input after batch and time; None is not known yet."""
        return (self.in_size,)

    def _filled(
        self, state: dict[str, Any], batch: int, like: Array, given: bool
    ) -> dict[str, Array]:
        """The state to begin with: zeros for None, after its shape was checked."""
        W = untraced(self.lateral.W.array)
        xp = array_namespace(untraced(like))
        shape = (batch, self.out_size)
        filled = {}
        for name, array in state.items():
            if array is None:
                array = xp.zeros(shape, dtype=W.dtype)
            elif given:
                check_array(type(self).__name__, name, array)
            if tuple(array.shape) != shape:
                message = (
                    f"{type(self).__name__}: `{name}` must have shape {shape}, for a "
                    f"batch of {batch}, got {tuple(array.shape)}"
                )
                if not given:
                    message += (
                        ", which a call with another batch left; call reset_state() "
                        "between batches of different size"
                    )
                raise ValueError(message)
            filled[name] = array
        return filled

    def _run(
        self, xs: Array, state: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Hidden states of all steps and the state after the last."""
        z = self._inputs(xs)
        scaled = self.unit_scale is not None or self.gate_scale is not None
        variational = isinstance(self.lateral, VariationalLink)
        if not scaled and not (self._noise_by_activation and variational):
            return self._sequence(z, *_weights(self.lateral), **state)
        return self._steps(z, state)

    @property
    def _noise_by_activation(self) -> bool:
        return self.noise == "activations" and config.train

    def _inputs(self, xs: Array) -> Array:
        """What the inputs add to the gates, in all steps: (time, batch, rows)."""
        time, batch, size = xs.shape
        rows = array_namespace(xs).reshape(xs, (time * batch, size))
        if self._noise_by_activation:
            z = self.upward(rows)
        else:
            z = F.linear(rows, *_weights(self.upward))
        return array_namespace(z).reshape(z, (time, batch, z.shape[-1]))

    def _steps(
        self, z: Array, state: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """All steps one by one: noise of each, or multipliers of each example."""
        batch = z.shape[1]
        units, gates = (
            None if scale is None else scale.draw(batch)
            for scale in (self.unit_scale, self.gate_scale)
        )
        z = _multiplied(z, self._input_bias, gates)
        lateral = self.lateral
        bias = None if lateral.b is None else lateral.b.array
        if not self._noise_by_activation:
            lateral = partial(F.linear, W=_weights(lateral)[0], b=bias)
        hs = []
        for t in range(z.shape[0]):
            a = _multiplied(lateral(state["h"]), bias, gates)
            state = self._step(z[t, ...], a, units, **state)
            hs.append(state["h"])
        return array_namespace(*hs).stack(hs, axis=0), state

    @property
    def _input_bias(self) -> Array | None:
        return None if self.upward.b is None else self.upward.b.array

    @abstractmethod
    def _sequence(
        self, z: Array, W: Array, b: Array | None, **state: Array
    ) -> tuple[Array, dict[str, Array]]:
        """All steps from the part of the inputs and the lateral weights."""

    @abstractmethod
    def _step(
        self, z: Array, a: Array, units: Array | None, **state: Array
    ) -> dict[str, Array]:
        """State after one step from the parts of input and hidden state.

        `units` multiply what the step makes of them, if there are such multipliers.
        """


class HiddenStateLink(RecurrentLink):
    """A recurrent layer whose hidden state is all of its state."""

    def set_state(self, h: Array) -> None:
        """Begin the next call with this hidden state, which is copied."""
        self._set_state(h=h)

    def forward(self, x: Array, h: Array | None = None) -> Array:
        """Do one step, or all of a sequence.

        Parameters
        ----------
        x : array, shape (batch, in_size) or (time, batch, in_size)
        h : array, shape (batch, out_size), optional
            State to begin with, instead of the link's own, which is neither used nor
            changed.

        Returns
        -------
        array, shape (batch, out_size) or (time, batch, out_size)
            Hidden state of each step.

        Raises
        ------
        ValueError, TypeError
            As :meth:`LSTM.forward`.
        """
        return self._call(x, {"h": h})[0]


def _multiplied(a: Array, b: Array | None, gates: Array | None) -> Array:
    """Pre-activations with multipliers of their gates, of which biases are no part."""
    if gates is None:
        return a
    return a * gates if b is None else a * gates + b * (1 - gates)


def _weights(link: Any) -> tuple[Array, Array | None]:
    """Weights of one call, drawn where the layer is variational, and its bias."""
    is_variational = isinstance(link, VariationalLink)
    W = link.sample_W() if is_variational else link.W.array
    return W, None if link.b is None else link.b.array
