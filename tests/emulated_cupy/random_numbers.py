"""``cupy.random``: generators of the new kind, with draws of their own."""

from __future__ import annotations

from typing import Any

import numpy

from tests.emulated_cupy.array import call, ndarray

__all__ = ["XORWOW", "BitGenerator", "Generator", "Philox4x3210", "default_rng"]


class BitGenerator:
    """A source of bits; here they are NumPy's."""

    __module__ = "cupy.random._bit_generator"

    def __init__(self, seed: Any = None) -> None:
        self._source = numpy.random.default_rng(seed)


class XORWOW(BitGenerator):
    """CuPy's default source."""

    __module__ = "cupy.random._bit_generator"


class Philox4x3210(BitGenerator):
    """A source that counts."""

    __module__ = "cupy.random._bit_generator"


class Generator:
    """Draws on the device."""

    __module__ = "cupy.random._generator_api"

    def __init__(self, bit_generator: BitGenerator) -> None:
        self.bit_generator = bit_generator

    def standard_normal(
        self, size: Any = None, dtype: Any = float, out: ndarray | None = None
    ) -> ndarray:
        """Draws of the standard normal distribution."""
        return self._draw("standard_normal", size, dtype, out)

    def standard_exponential(
        self,
        size: Any = None,
        dtype: Any = numpy.float64,
        method: str = "inv",
        out: ndarray | None = None,
    ) -> ndarray:
        """Draws of the standard exponential distribution."""
        return self._draw("standard_exponential", size, dtype, out)

    def random(
        self, size: Any = None, dtype: Any = numpy.float64, out: ndarray | None = None
    ) -> ndarray:
        """Draws from 0 to 1, 1 excluded."""
        return self._draw("random", size, dtype, out)

    def uniform(
        self,
        low: Any = 0.0,
        high: Any = 1.0,
        size: Any = None,
        dtype: Any = numpy.float64,
    ) -> ndarray:
        """Draws between two numbers."""
        draws = self._draw("random", size, dtype, None)
        return draws * (high - low) + low

    def integers(
        self,
        low: Any,
        high: Any = None,
        size: Any = None,
        dtype: Any = numpy.int64,
        endpoint: bool = False,
    ) -> ndarray:
        """Integers between two numbers."""
        source = self.bit_generator._source
        return call(
            lambda: numpy.asarray(source.integers(low, high, size, dtype, endpoint))
        )

    def _draw(self, name: str, size: Any, dtype: Any, out: ndarray | None) -> ndarray:
        if numpy.dtype(dtype).name not in ("float32", "float64"):
            message = f"Unsupported dtype {numpy.dtype(dtype)} for {name}"
            raise TypeError(message)
        size = out.shape if out is not None and size is None else size
        method = getattr(self.bit_generator._source, name)

        def draw(out: Any = None) -> Any:
            values = numpy.asarray(method(size, dtype=dtype))
            return values if out is None else numpy.copyto(out, values)

        return call(draw, out=out)


def default_rng(seed: Any = None) -> Generator:
    """A generator of XORWOW."""
    return Generator(XORWOW(seed))
