"""Kernels against their generic definitions in double precision."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore.arrays import to_numpy


def assert_close(
    ours: Any, expected: Any, tolerance: float = 2e-6, least: float = 0
) -> None:
    """Of float32 or integers, and within a share of the largest number, or `least`."""
    if expected is None:
        assert ours is None
        return
    ours, expected = to_numpy(ours), numpy.asarray(expected)
    assert ours.shape == expected.shape
    assert ours.dtype == (numpy.float32 if expected.dtype.kind == "f" else numpy.int32)
    finite = expected[numpy.isfinite(expected)]
    largest = max(least, numpy.abs(finite).max() if finite.size else 1)
    numpy.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * largest)


def both(kernel: Any, library: Any, *arguments: Any, layout: Any = None) -> Any:
    """Results of the override and of the generic definition.

    Arrays of `arguments` are float32; `layout` changes how CuPy's lie in memory.
    """
    on_device, exact = [], []
    for argument in arguments:
        is_array = isinstance(argument, numpy.ndarray)
        is_float = is_array and argument.dtype.kind == "f"
        exact.append(argument.astype(float) if is_float else argument)
        if is_array:
            argument = library.asarray(argument)
            if layout is not None and is_float and argument.ndim > 1:
                argument = layout(argument)
        on_device.append(argument)
    return kernel(*on_device), kernel.generic(*exact)


def assert_same(
    kernel: Any,
    library: Any,
    *arguments: Any,
    tolerance: float = 2e-6,
    least: float = 0,
    layout: Any = None,
) -> None:
    """Assert that each result of the override is that of the definition."""
    ours, expected = both(kernel, library, *arguments, layout=layout)
    if not isinstance(expected, tuple):
        ours, expected = [ours], [expected]
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, b, tolerance, least)


def plain(x):
    """As it is."""
    return x


def channels_last(x):
    """The same numbers, the second axis last in memory."""
    order = (0, *range(2, x.ndim), 1)
    return x.transpose(order).copy().transpose(0, -1, *range(1, x.ndim - 1))


def reversed_axes(x):
    """The same numbers, the first axis last in memory."""
    return x.T.copy().T


def with_gaps(x):
    """The same numbers, every second one in memory."""
    wide = x[..., None].repeat(2, axis=-1)
    return wide[..., 0]


def shifted(x):
    """The same numbers, contiguous, but not on 16 bytes."""
    flat = x.ravel()
    memory = flat[[0]].repeat(x.size + 1)
    memory[1:] = flat
    return memory[1:].reshape(x.shape)


LAYOUTS = (plain, channels_last, reversed_axes, with_gaps, shifted)
