"""Settings that hold for a stretch of code: training or not, the source of seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy


class Config:
    """Attributes read where a link is called or constructed.

    Attributes
    ----------
    train : bool
        Whether links behave as in training (noise on). Default True.
    rng : numpy.random.Generator
        Parent of every generator that a link, initializer or iterator makes for
        itself when it is constructed.
    tf32 : bool
        Whether a GPU may round the operands of products of float32 matrices, and of
        convolutions, to 10 bits of mantissa, which its tensor cores multiply several
        times faster. Default False: float32 throughout.
    use_cudnn : {"auto", "always", "never"}
        Whether convolutions of a GPU are cuDNN's: "auto", the default, where it is
        installed and can do them; "always", or an error; "never", but products of
        matrices. As Chainer's setting of this name, except that it is of convolutions
        only, and that "always" does not run without.

    Values set with :func:`using_config` are local to the thread or task.
    """

    _defaults: dict[str, Any]
    _local: ContextVar[dict[str, Any]]

    def __init__(self) -> None:
        defaults = {
            "train": True,
            "rng": numpy.random.default_rng(),
            "tf32": False,
            "use_cudnn": "auto",
        }
        object.__setattr__(self, "_defaults", defaults)
        object.__setattr__(self, "_local", ContextVar("vdcore_config"))

    def __getattr__(self, name: str) -> Any:
        local = self._local.get({})
        if name in local:
            return local[name]
        self._check(name)
        return self._defaults[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        if name in self._local.get({}):
            self._local.set({**self._local.get(), name: value})
        else:
            self._defaults[name] = value

    def _check(self, name: str) -> None:
        if name not in self._defaults:
            known = ", ".join(sorted(self._defaults))
            message = f"config: there is no setting {name!r}; there are {known}"
            raise AttributeError(message)


config = Config()


@contextmanager
def using_config(name: str, value: Any) -> Iterator[None]:
    """Set one setting of :data:`config` inside a ``with`` block.

    Examples
    --------
    >>> with using_config("train", False):
    ...     config.train
    False
    >>> config.train
    True
    """
    config._check(name)
    token = config._local.set({**config._local.get({}), name: value})
    try:
        yield
    finally:
        config._local.reset(token)


def seed(value: int) -> None:
    """Make everything constructed from here on draw from one seed.

    Links and iterators take a child of ``config.rng`` when they are constructed, and
    initializers when they make an array, so one call at the top of a script makes a
    run repeatable.
    """
    config.rng = numpy.random.default_rng(value)


def spawn_rng() -> numpy.random.Generator:
    """A new generator, statistically independent of all others from ``config.rng``."""
    return config.rng.spawn(1)[0]
