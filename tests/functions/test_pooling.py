"""Pooling against torch, and against traced array functions."""

from __future__ import annotations

import functools

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients
from vdcore.windows import window

# Arguments of torch's names: with `ceil_mode` every pixel is in a window.
CASES = [
    ((2, 3, 6, 8), {"kernel_size": 2}),
    ((2, 3, 7, 5), {"kernel_size": 2}),
    ((2, 3, 7, 5), {"kernel_size": 2, "ceil_mode": True}),
    ((3, 1, 9, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ((3, 1, 9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    ((1, 2, 5, 6), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
    ((2, 2, 8, 7), {"kernel_size": 2, "stride": 3}),
    ((2, 2, 3, 3), {"kernel_size": 3}),
    ((2, 2, 2, 1), {"kernel_size": 2, "ceil_mode": True}),
    ((1, 1, 1, 1), {"kernel_size": 1}),
    ((18, 2, 17, 17), {"kernel_size": 17}),  # more elements than a byte can tell apart
]


def arguments(case):
    """Chainer's arguments."""
    ours = {"kernel_size": "ksize", "padding": "pad"}
    return {ours.get(key, key): value for key, value in case.items()}


def with_gradient(library, function, x, gy):
    """The result and the gradient of its sum weighted by gy."""

    def scalar(x):
        y = function(x)
        results.append(y._value)
        return array_namespace(y).sum(y * library.asarray(gy))

    results = []
    _, (gx,) = value_and_gradients(scalar, [library.asarray(x)])
    return results[0], gx


def by_torch(torch, function, x, case):
    leaf = torch.tensor(x, requires_grad=True)
    y = function(leaf, **case)
    gy = numpy.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    (gx,) = torch.autograd.grad(y, leaf, torch.tensor(gy))
    return y.detach().numpy(), gy, gx.numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "case"), CASES)
def test_max_pooling_is_torchs(tape_library, torch, rng, shape, case, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    expected, gy, slope = by_torch(torch, torch.nn.functional.max_pool2d, x, case)
    options = arguments(case)
    options["cover_all"] = options.pop("ceil_mode", False)
    pooled = functools.partial(F.max_pooling_2d, **options)
    y, gx = with_gradient(tape_library, pooled, x, gy)
    assert to_numpy(y).dtype == to_numpy(gx).dtype == dtype
    numpy.testing.assert_array_equal(to_numpy(y), expected)
    numpy.testing.assert_allclose(to_numpy(gx), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "case"), [(s, c) for s, c in CASES if not c.get("ceil_mode")]
)
def test_average_pooling_is_torchs(tape_library, torch, rng, shape, case, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    expected, gy, slope = by_torch(torch, torch.nn.functional.avg_pool2d, x, case)
    pooled = functools.partial(F.average_pooling_2d, **arguments(case))
    y, gx = with_gradient(tape_library, pooled, x, gy)
    assert to_numpy(y).dtype == to_numpy(gx).dtype == dtype
    numpy.testing.assert_allclose(to_numpy(y), expected, rtol=1e-5, atol=1e-6)
    numpy.testing.assert_allclose(to_numpy(gx), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_numbers_and_nan(tape_library, torch, dtype):
    """The gradient goes to the first of equals; a NaN is the largest, as in torch."""
    x = numpy.random.default_rng(2).integers(-2, 2, (2, 3, 6, 6)).astype(dtype)
    x[0, 1, 2, 3] = x[1, 0, 0, 0] = numpy.nan
    x[1, 2, 1, 1] = -numpy.inf
    expected, gy, slope = by_torch(
        torch, torch.nn.functional.max_pool2d, x, {"kernel_size": 3, "stride": 1}
    )
    assert numpy.isnan(expected).sum() == 10
    pooled = functools.partial(F.max_pooling_2d, ksize=3, stride=1)
    y, gx = with_gradient(tape_library, pooled, x, gy)
    numpy.testing.assert_array_equal(to_numpy(y), expected)
    numpy.testing.assert_allclose(to_numpy(gx), slope, rtol=1e-5, atol=1e-6)


def test_average_of_nan(tape_library):
    x = numpy.zeros((1, 1, 2, 4))
    x[0, 0, 0, 0] = numpy.nan
    y = to_numpy(F.average_pooling_2d(tape_library.asarray(x), 2))
    assert numpy.isnan(y).tolist() == [[[[True, False]]]]


def test_chainers_defaults(tape_library):
    """The stride is the window's size; the last window may reach beyond the image."""
    x = tape_library.asarray(numpy.arange(25.0).reshape(1, 1, 5, 5))
    assert to_numpy(F.max_pooling_2d(x, 2)).tolist() == [
        [[[6, 8, 9], [16, 18, 19], [21, 23, 24]]]
    ]
    y = F.max_pooling_2d(x, 2, cover_all=False)
    assert to_numpy(y).tolist() == [[[[6, 8], [16, 18]]]]
    assert to_numpy(F.average_pooling_2d(x, 2)).tolist() == [[[[3, 5], [13, 15]]]]


def test_padding_is_never_the_largest(tape_library):
    x = tape_library.asarray(-numpy.ones((1, 1, 3, 3)))
    assert (to_numpy(F.max_pooling_2d(x, 3, 2, 1)) == -1).all()


def composed_max(x, ksize, stride, pad, cover_all):
    moved = window("composed", ksize, stride, pad)
    positions = moved.positions(x.shape[2:], cover_all=cover_all)
    edges = (pad, pad + ksize)
    image = F.pad(x, ((0, 0), (0, 0), edges, edges), constant_values=-numpy.inf)
    elements = moved.elements(positions)
    parts = [image[:, :, rows, columns] for rows, columns in elements]
    return functools.reduce(array_namespace(x).maximum, parts)


def composed_average(x, ksize, stride, pad):
    moved = window("composed", ksize, stride, pad)
    image = F.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    elements = moved.elements(moved.positions(x.shape[2:]))
    parts = [image[:, :, rows, columns] for rows, columns in elements]
    return functools.reduce(array_namespace(x).add, parts) / len(parts)


@pytest.mark.parametrize("case", [(2, 2, 0), (3, 2, 1), (3, 1, 0), (2, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["max", "max, cover_all", "average"])
def test_fused_is_the_composition(tape_library, rng, case, kind):
    x = rng.standard_normal((2, 3, 7, 6))
    if kind == "average":
        functions = (F.average_pooling_2d, composed_average)
    else:
        case = (*case, kind == "max, cover_all")
        functions = (F.max_pooling_2d, composed_max)
    shape = functions[0](tape_library.asarray(x), *case).shape
    gy = rng.standard_normal(tuple(shape))
    fused, composed = (
        with_gradient(tape_library, lambda x, f=f: f(x, *case), x, gy)
        for f in functions
    )
    for a, b in zip(fused, composed, strict=True):
        numpy.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cover_all", [True, False])
def test_gradients(tape_library, rng, cover_all):
    x = tape_library.asarray(rng.standard_normal((2, 3, 7, 6)))
    check_gradients(lambda x: F.max_pooling_2d(x, 3, 2, 1, cover_all), [x])
    check_gradients(lambda x: F.max_pooling_2d(x, 2, cover_all=cover_all), [x])
    check_gradients(lambda x: F.average_pooling_2d(x, (3, 2), 2, 1), [x])


@pytest.mark.parametrize("operation", ["max_pooling_2d", "average_pooling_2d"])
def test_errors(tape_library, operation):
    x = tape_library.asarray(numpy.ones((2, 3, 4, 5)))
    pool = getattr(F, operation)
    cases = [
        (
            ValueError,
            r"`x` must have shape .*got \(2, 3, 4\)",
            lambda: pool(x[..., 0], 2),
        ),
        (
            ValueError,
            r"none of them 0, got \(0, 3,",
            lambda: pool(x[:0, ...], 2),
        ),
        (ValueError, "`ksize` must be an integer of at least 1", lambda: pool(x, 0)),
        (ValueError, "`ksize` must be an integer", lambda: pool(x, (2, 2, 2))),
        (
            ValueError,
            "`stride` must be an integer of at least",
            lambda: pool(x, 2, 0),
        ),
        (
            ValueError,
            "`pad` must be an integer of at least",
            lambda: pool(x, 2, 2, -1),
        ),
        (
            ValueError,
            r"window must fit in the padded images, got `ksize` = \(8, 8\) for images "
            r"of \(4, 5\) with `pad` = \(1, 1\)",
            lambda: pool(x, 8, 1, 1),
        ),
        (ValueError, "every window must meet the image", lambda: pool(x, 2, 2, 2)),
        (TypeError, "`x` must be an array, got list", lambda: pool([[1.0]], 2)),
        (
            TypeError,
            "`x` must hold floating-point numbers, got .*int64",
            lambda: pool(tape_library.asarray(numpy.ones((1, 1, 2, 2), "int64")), 2),
        ),
    ]
    for error, text, call in cases:
        with pytest.raises(error, match=f"{operation}: .*{text}"):
            call()


def test_a_window_beyond_the_image():
    """Chainer's rule would put a third window at pixel 6 of 5."""
    x = numpy.ones((1, 1, 5, 5))
    with pytest.raises(ValueError, match="every window must meet the image"):
        F.max_pooling_2d(x, 1, 3)
    assert F.max_pooling_2d(x, 1, 3, cover_all=False).shape == (1, 1, 2, 2)
