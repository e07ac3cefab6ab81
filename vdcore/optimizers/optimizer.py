"""The base of all optimizers: one step is loss, gradients, hooks, update."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like
from vdcore.autodiff import value_and_gradients
from vdcore.carried_state import CarriedState
from vdcore.configuration import using_config
from vdcore.link import Link
from vdcore.optimizers.loss_guard import LossGuard, NonFiniteLossError, check_finite
from vdcore.parameter import Parameter
from vdcore.replay import each_time


class Optimizer:
    """Updates the parameters of a link.

    Attributes
    ----------
    target : Link or None
        What :meth:`setup` was given.
    t : int
        Updates done.
    epoch : int
        Epochs finished; see :meth:`new_epoch`.
    state : dict
        For each parameter path the arrays that the rule keeps, for example ``m`` and
        ``v`` of Adam.
    hooks : dict
        What :meth:`add_hook` was given, by name.
    live_attributes : tuple of str
        Those that a rule reads through :func:`vdcore.replay.live`.
    """

    live_attributes: tuple[str, ...] = ("t", "epoch", "lr")

    state_names: tuple[str, ...] = ()
    hyperparameters: tuple[str, ...] = ("lr",)

    def __init__(self) -> None:
        self.target: Any = None
        self.t = 0
        self.epoch = 0
        self.state: dict[str, dict[str, Array]] = {}
        self.hooks: dict[str, Callable[[Optimizer], None]] = {}
        self._guard = LossGuard()

    def setup(self, link: Link) -> Optimizer:
        """Choose the link to train; forgets all state. Returns self.

        Raises
        ------
        TypeError
            If `link` is no Link; a sparse model is none.
        """
        if not isinstance(link, Link):
            _refuse_target(link)
        self.target = link
        self.t = self.epoch = 0
        self.state = {}
        self._guard = LossGuard()
        return self

    def add_hook(self, hook: Callable[[Optimizer], None], name: str = "") -> None:
        """Call `hook` with the optimizer between gradients and update.

        Raises
        ------
        ValueError
            If a hook of that name is there already.
        """
        name = name or getattr(hook, "name", "") or type(hook).__name__
        if name in self.hooks:
            message = f"add_hook: there is a hook {name!r} already; give another `name`"
            raise ValueError(message)
        self.hooks[name] = hook

    def new_epoch(self) -> None:
        """Count an epoch."""
        self.epoch += 1

    def update(
        self, lossfun: Callable[..., Array] | None = None, *args: Any, **kwargs: Any
    ) -> Array | None:
        """Do one step.

        A loss on a GPU that is not finite changes no parameter, and neither does any
        step after it, but it is :meth:`check_finite` that raises: to look at each loss
        would mean to wait for the GPU in each step.

        Parameters
        ----------
        lossfun : callable, optional
            Called with the other arguments; returns the loss, a 0-d array. Without it
            the gradients that the parameters hold are used.

        Returns
        -------
        array, shape (), or None
            The loss.

        Raises
        ------
        RuntimeError
            If there is no target.
        NonFiniteLossError
            If the loss is NaN or infinite, before any parameter changes. On a GPU
            :meth:`check_finite` raises it.
        """
        target = self._checked_target()
        loss = None
        if lossfun is not None:
            loss = compute_gradients(target, lossfun, *args, **kwargs)
            self.watch(loss)
        for hook in self.hooks.values():
            hook(self)
        each_time(self._count)
        parameters, states = [], []
        for path, parameter in target.namedparams():
            if parameter.trainable and parameter.grad is not None:
                parameters.append(parameter)
                states.append(self._state_of(path, parameter))
        if parameters:
            self.update_parameters(parameters, states, self._guard.finite)
        return loss

    def watch(self, loss: Array) -> None:
        """Note the loss of the next :meth:`update`, if that is not given a `lossfun`.

        On a GPU that update then changes nothing if the loss is not finite.
        """
        self._guard.watch(loss)

    def check_finite(self) -> None:
        """Wait for a GPU, and raise if a loss has not been finite.

        Raises
        ------
        NonFiniteLossError
            It says how many steps ago. The parameters are those before that step.
        """
        in_vain = self._guard.check()
        if in_vain:
            self.t -= in_vain
            message = (
                f"update: the loss was NaN or infinite {in_vain} steps ago (1: in the "
                "last one), and no parameter has changed since. Lower the learning "
                "rate, clip the gradients, or look at the data"
            )
            raise NonFiniteLossError(message)

    def update_parameters(
        self,
        parameters: list[Parameter],
        states: list[dict[str, Array]],
        finite: Array | None,
    ) -> None:
        """Change parameters by their gradients, and their states.

        Parameters
        ----------
        parameters : list of Parameter
        states : list of dict
            As :attr:`state`, of each.
        finite : array, shape (), or None
            Where it is 0, nothing may change.
        """
        for parameter, state in zip(parameters, states, strict=True):
            old_array, old_state = parameter.array, dict(state)
            self.update_parameter(parameter, state)
            if finite is not None:
                parameter.array = _written(finite, parameter.array, old_array)
                for name, old in old_state.items():
                    state[name] = _written(finite, state[name], old)

    def update_parameter(self, parameter: Parameter, state: dict[str, Array]) -> None:
        """Change one parameter by its gradient, and its `state`: the rule."""
        message = f"{type(self).__name__}: update_parameter is not defined"
        raise RuntimeError(message)

    def _count(self) -> None:
        self.t += 1

    def serialize(self, serializer: Any) -> None:
        """Read or write step counts, hyperparameters, state, and the target's own.

        The target's own is what its links need to continue, not its parameters:
        generators, KL coefficient (:meth:`Link.serialize_training_state`).
        """
        target = self._checked_target()
        self.t = serializer("t", self.t)
        self.epoch = serializer("epoch", self.epoch)
        for name in self.hyperparameters:
            setattr(self, name, serializer(name, getattr(self, name)))
        for path, parameter in target.namedparams():
            child = serializer["state" + path]
            state = self._state_of(path, parameter)
            for name in self.state_names:
                stored = child(name, state.get(name))
                if stored is None:  # a file was refused, and all is as it was
                    state.pop(name, None)
                    continue
                if parameter.array is not None:
                    stored = asarray_like(stored, parameter.array)
                state[name] = stored
        target.serialize_training_state(serializer["training_state"])

    def _state_of(self, path: str, parameter: Parameter) -> dict[str, Array]:
        state = self.state.setdefault(path, {})
        if not state and parameter.array is not None:
            zeros = array_namespace(parameter.array).zeros_like
            state.update({name: zeros(parameter.array) for name in self.state_names})
        return state

    def _checked_target(self) -> Link:
        if self.target is None:
            message = f"{type(self).__name__}: no target; call setup(model) first"
            raise RuntimeError(message)
        return self.target


def check_step_size(operation: str, argument: str, value: Any) -> float:
    """Return a step size, if it is one; 0 is, for schedules that end there.

    Raises
    ------
    ValueError
        If it is negative, infinite, NaN or no number.
    """
    is_number = isinstance(value, int | float | numpy.integer | numpy.floating)
    if not is_number or not 0 <= value < math.inf:
        message = (
            f"{operation}: `{argument}` must be a finite number, positive or 0, "
            f"got {value!r}; leave it out for the default"
        )
        raise ValueError(message)
    return value


def _refuse_target(link: object) -> NoReturn:
    message = (
        f"setup: `link` must be a Link, such as a Chain, got {type(link).__name__}; "
        "give the one that holds the parameters. A sparse model is for inference: "
        "train the model that it was made from"
    )
    raise TypeError(message)


def compute_gradients(
    link: Link, lossfun: Callable[..., Array], *args: Any, **kwargs: Any
) -> Array:
    """Evaluate a loss and set the gradient of every parameter of `link`.

    While `lossfun` runs, ``parameter.array`` is the traced array. Parameters of which
    the shape is not known yet are made by a first call of `lossfun` off the tape. What
    links carry from call to call (:attr:`Link.state_names`) is off the tape afterwards,
    and as it was before where an error is raised.

    Returns
    -------
    array, shape ()
        The loss.

    Raises
    ------
    NonFiniteLossError
        If the loss is NaN or infinite, and not on a GPU.
    """
    parameters = list(link.params())
    before = CarriedState(link)
    if not all(parameter.is_initialized for parameter in parameters):
        with using_config("train", False):
            lossfun(*args, **kwargs)
        before.restore()
    arrays = [parameter.array for parameter in parameters]

    def traced_loss(*traced: Array) -> Array:
        for parameter, array in zip(parameters, traced, strict=True):
            parameter.array = array
        loss = lossfun(*args, **kwargs)
        check_finite(loss)
        return loss

    try:
        loss, gradients = value_and_gradients(traced_loss, arrays)
        before.detach()
    except BaseException:
        before.restore()
        raise
    finally:
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.array = array
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return loss


def _written(finite: Array, new: Array, old: Array) -> Array:
    """The array `old`, with the values of `new` unless `finite` is 0."""
    old[...] = array_namespace(finite, new).where(finite != 0, new, old)
    return old
