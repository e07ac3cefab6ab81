"""Steps of training that a GPU repeats by itself, as long as nothing else changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vdcore.arrays import is_array, is_on_gpu
from vdcore.configuration import config
from vdcore.link import Link
from vdcore.optimizers import Optimizer

Plain = bool | int | float | str | None


class RepeatedStep:
    """Calls a step of training, or lets the GPU repeat what it recorded of one.

    A step is recorded when it is called for the second time in the same state: the
    attributes of links, optimizer and hooks that are numbers or strings, which
    parameters are trained, and where arrays lie. After a change of state, such as
    masks being turned on, it is called, and recorded anew. Attributes that a class
    lists as ``live_attributes`` may change at any time.

    Parameters
    ----------
    step : callable
        Takes what changes from step to step by :func:`vdcore.replay.live`.
    model : Link
    optimizer : Optimizer
    """

    def __init__(
        self, step: Callable[[], None], model: Link, optimizer: Optimizer
    ) -> None:
        self._step = step
        self._model = model
        self._optimizer = optimizer
        self._state: Any = None
        self._graph: Any = None  # of the GPU, once the step is recorded

    def __call__(self) -> None:
        """Do a step."""
        state = tuple(self._describe())
        if state != self._state:
            if self._graph is not None:
                self._graph.wait()
                self._graph = None
            self._step()
            # The first step makes arrays, of parameters and of the optimizer.
            self._state = tuple(self._describe())
        elif self._graph is None:
            self._check_device()
            from vdcore.backends.cuda.graph import StepGraph

            self._graph = StepGraph(self._step)
            self._graph.launch()
        else:
            self._graph.repeat()

    def _describe(self) -> Iterator[Any]:
        """All that a recorded step would repeat as it was."""
        yield config.train, config.tf32, config.use_cudnn
        for link in self._model.links():
            yield tuple(_plain_attributes(link))
        for parameter in self._model.params():
            yield parameter.trainable, parameter.decays, _place(parameter.array)
        yield tuple(_plain_attributes(self._optimizer))
        for arrays in self._optimizer.state.values():
            yield tuple(map(_place, arrays.values()))
        for name, hook in self._optimizer.hooks.items():
            yield name, tuple(_plain_attributes(hook))

    def _check_device(self) -> None:
        if not all(is_on_gpu(parameter.array) for parameter in self._model.params()):
            message = (
                "StandardUpdater: `graph` needs a model on a GPU; pass its number as "
                "`device`, or leave graph=True out"
            )
            raise RuntimeError(message)


def _plain_attributes(owner: Any) -> Iterator[tuple[str, Plain]]:
    live = getattr(owner, "live_attributes", ())
    for name, value in getattr(owner, "__dict__", {}).items():
        if isinstance(value, bool | int | float | str | None):
            if name not in live:
                yield name, value
        elif is_array(value):
            yield name, _place(value)


def _place(array: Any) -> Any:
    """Where an array's memory is, for one of a GPU."""
    return array.data.ptr if is_on_gpu(array) else id(array)
