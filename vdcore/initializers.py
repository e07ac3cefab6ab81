"""Initial values of parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy

from vdcore.configuration import spawn_rng


class Initializer(ABC):
    """Makes the first values of a parameter: call it with a shape.

    Parameters
    ----------
    dtype
        Of the arrays made. Default float32.
    """

    def __init__(self, dtype: Any = numpy.float32) -> None:
        self.dtype = numpy.dtype(dtype)

    @abstractmethod
    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""


class Constant(Initializer):
    """One value everywhere."""

    def __init__(self, fill_value: float, dtype: Any = numpy.float32) -> None:
        super().__init__(dtype)
        self.fill_value = fill_value

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        return numpy.full(shape, self.fill_value, dtype=self.dtype)


class Given(Initializer):
    """The values of an array, copied."""

    def __init__(self, values: numpy.ndarray) -> None:
        super().__init__(values.dtype)
        self.values = values

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        if self.values.shape != tuple(shape):
            message = (
                f"initializer: the given array must have shape {tuple(shape)}, "
                f"got {self.values.shape}"
            )
            raise ValueError(message)
        return self.values.copy()


class Normal(Initializer):
    """Independent draws from ``N(0, scale^2)``.

    Parameters
    ----------
    scale : float
        Standard deviation.
    rng : numpy.random.Generator, optional
        Default a child of ``config.rng``.
    """

    def __init__(
        self,
        scale: float = 0.05,
        dtype: Any = numpy.float32,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.scale = scale
        self.rng = rng

    def deviation(self, shape: tuple[int, ...]) -> float:
        """Standard deviation for a parameter of this shape."""
        return self.scale

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        rng = spawn_rng() if self.rng is None else self.rng
        draws = rng.standard_normal(shape) * self.deviation(shape)
        return draws.astype(self.dtype)


class Uniform(Normal):
    """Independent draws from ``U(-scale, scale)``.

    Parameters
    ----------
    scale : float
    rng : numpy.random.Generator, optional
        Default a child of ``config.rng``.
    """

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        rng = spawn_rng() if self.rng is None else self.rng
        limit = self.deviation(shape)
        return rng.uniform(-limit, limit, shape).astype(self.dtype)


class Orthogonal(Normal):
    """`scale` times a random matrix whose columns, or rows if fewer, are orthonormal.

    Of more than two axes the later ones count as one. Saxe, McClelland and Ganguli
    2013; uniform among all such matrices (Haar).

    Parameters
    ----------
    scale : float
        Default 1 (Chainer's: 1.1).
    rng : numpy.random.Generator, optional
        Default a child of ``config.rng``.
    """

    def __init__(
        self,
        scale: float = 1.0,
        dtype: Any = numpy.float32,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__(scale, dtype, rng)

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        rng = spawn_rng() if self.rng is None else self.rng
        rows, columns = shape[0], math.prod(shape[1:])
        draws = rng.standard_normal((max(rows, columns), min(rows, columns)))
        Q, R = numpy.linalg.qr(draws)
        Q *= numpy.sign(numpy.diagonal(R))  # QR alone prefers some matrices
        matrix = Q if rows >= columns else Q.T
        return (self.scale * matrix).reshape(shape).astype(self.dtype)


class LeCunNormal(Normal):
    """``N(0, scale^2 / fan_in)`` (LeCun et al. 1998), Chainer's default for weights."""

    def __init__(
        self,
        scale: float = 1.0,
        dtype: Any = numpy.float32,
        rng: numpy.random.Generator | None = None,
    ) -> None:
        super().__init__(scale, dtype, rng)

    def deviation(self, shape: tuple[int, ...]) -> float:
        """Standard deviation for a parameter of this shape."""
        return self.scale / math.sqrt(math.prod(shape[1:]))


class HeNormal(LeCunNormal):
    """``N(0, 2 scale^2 / fan_in)`` (He et al. 2015), for layers before a rectifier."""

    def deviation(self, shape: tuple[int, ...]) -> float:
        """Standard deviation for a parameter of this shape."""
        return math.sqrt(2) * super().deviation(shape)


class GlorotUniform(LeCunNormal):
    """``U(-a, a)`` with ``a = scale sqrt(6 / (fan_in + fan_out))``.

    Glorot and Bengio 2010.
    """

    def __call__(self, shape: tuple[int, ...]) -> numpy.ndarray:
        """Make a new array of this shape."""
        rng = spawn_rng() if self.rng is None else self.rng
        receptive = math.prod(shape[2:])
        limit = self.scale * math.sqrt(6 / (receptive * (shape[0] + shape[1])))
        return rng.uniform(-limit, limit, shape).astype(self.dtype)


def get_initializer(value: Any, default: Initializer) -> Initializer:
    """An initializer from an initializer, an array, None (`default`), or a number.

    A number takes the dtype of `default`.
    """
    if value is None:
        return default
    if isinstance(value, Initializer):
        return value
    if isinstance(value, (int, float)):
        return Constant(value, default.dtype)
    if isinstance(value, numpy.ndarray):
        return Given(value)
    message = (
        "initializer: expected an Initializer, a number, a numpy.ndarray or None, "
        f"got {type(value).__name__}"
    )
    raise TypeError(message)
