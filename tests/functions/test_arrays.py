"""Joining and padding, against NumPy."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import to_numpy
from vdcore.testing import check_gradients


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_concat(library, rng, axis, count):
    arrays = []
    for k in range(count):
        shape = [2, 3, 4]
        shape[axis] = k + 1
        arrays.append(rng.standard_normal(shape).astype(numpy.float32))
    y = F.concat([library.asarray(a) for a in arrays], axis=axis)
    assert to_numpy(y).dtype == numpy.float32
    expected = numpy.concatenate(arrays, axis=axis)
    numpy.testing.assert_array_equal(to_numpy(y), expected)


def test_concat_joins_channels_by_default(library):
    x = library.asarray(numpy.zeros((2, 3, 4, 4)))
    assert tuple(F.concat((x, x)).shape) == (2, 6, 4, 4)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_of_concat(tape_library, rng, axis):
    x, y = (tape_library.asarray(a) for a in rng.standard_normal((2, 2, 3, 4)))
    check_gradients(lambda x, y: F.concat([x, y, x], axis), [x, y])
    check_gradients(lambda x: F.concat([x, y], axis), [x])


@pytest.mark.parametrize(
    "width", [0, 2, (1, 3), [2, 0], ((0, 1), (2, 3), (0, 0)), [[1, 0]] * 3], ids=str
)
@pytest.mark.parametrize("value", [0, -2.5, -numpy.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pad(tape_library, rng, width, value, dtype):
    x = rng.standard_normal((2, 3, 4)).astype(dtype)
    y = to_numpy(F.pad(tape_library.asarray(x), width, constant_values=value))
    assert y.dtype == dtype
    expected = numpy.pad(x, width, constant_values=value)
    numpy.testing.assert_array_equal(y, expected)


def test_gradients_of_pad(tape_library, rng):
    x = tape_library.asarray(rng.standard_normal((2, 3, 4)))
    check_gradients(lambda x: F.pad(x, ((0, 1), (2, 3), (0, 0)), "constant", 2), [x])


def test_errors(library):
    x = library.asarray(numpy.ones((2, 3)))
    for error, text, call in (
        (ValueError, "concat: `xs` must hold one array or more", lambda: F.concat([])),
        (TypeError, r"concat: `xs\[1\]` must be an array", lambda: F.concat([x, 1])),
        (ValueError, "concat: `axis` must be one of the 2", lambda: F.concat([x], 2)),
        (
            ValueError,
            r"concat: `xs` must have one shape, except along axis 0, got \(2, 3\) and, "
            r"for xs\[1\], \(2, 2\)",
            lambda: F.concat([x, x[:, :2]], axis=0),
        ),
        (
            ValueError,
            r"concat: `xs` must have one shape",
            lambda: F.concat([x, x[:, 0]]),
        ),
        (
            TypeError,
            r"concat: `xs` must have one dtype, got .*64 and, for xs\[1\], .*32",
            lambda: F.concat([x, library.asarray(numpy.ones((2, 3), "float32"))]),
        ),
        (ValueError, 'pad: `mode` must be "constant"', lambda: F.pad(x, 1, "edge")),
        (ValueError, "pad: `pad_width` must be an integer", lambda: F.pad(x, -1)),
        (ValueError, "pair for each of the 2 axes", lambda: F.pad(x, [(1, 1)] * 3)),
        (ValueError, "pad: `pad_width`", lambda: F.pad(x, [(1, -1), (0, 0)])),
        (TypeError, "pad: `x` must be an array", lambda: F.pad(3.0, 1)),
    ):
        with pytest.raises(error, match=text):
            call()
