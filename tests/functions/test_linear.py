"""linear and flatten."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients


@pytest.fixture
def arrays(rng):
    return [rng.standard_normal(shape) for shape in ((4, 5), (3, 5), (3,))]


def test_value(library, arrays):
    x, W, b = arrays
    y = F.linear(*map(library.asarray, arrays))
    numpy.testing.assert_allclose(to_numpy(y), x @ W.T + b, rtol=1e-13)
    y = F.linear(library.asarray(x), library.asarray(W))
    numpy.testing.assert_allclose(to_numpy(y), x @ W.T, rtol=1e-13)


def test_trailing_axes_are_flattened(library, arrays, rng):
    x, (_, W, b) = rng.standard_normal((4, 5, 1, 1)), arrays
    y = F.linear(*map(library.asarray, (x, W, b)))
    numpy.testing.assert_allclose(to_numpy(y), x[..., 0, 0] @ W.T + b, rtol=1e-13)


def test_gradients(tape_library, arrays):
    x, W, b = map(tape_library.asarray, arrays)
    check_gradients(F.linear, [x, W, b])
    check_gradients(F.linear, [x, W])
    check_gradients(lambda W: F.linear(x, W, b), [W])
    check_gradients(lambda x, b: F.linear(x, W, b), [x, b])
    check_gradients(
        lambda x: F.linear(x, W), [array_namespace(x).reshape(x, (4, 1, 5))]
    )


def test_fused_is_the_composition(tape_library, arrays):
    def composed(x, W, b):
        xp = array_namespace(x, W, b)
        return xp.sum(xp.tanh(xp.matmul(x, xp.matrix_transpose(W)) + b))

    def fused(x, W, b):
        y = F.linear(x, W, b)
        return array_namespace(y).sum(F.tanh(y))

    arrays = [tape_library.asarray(a) for a in arrays]
    results = [value_and_gradients(f, arrays) for f in (composed, fused)]
    assert float(results[0][0]) == pytest.approx(float(results[1][0]), rel=1e-14)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        numpy.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-13)


def test_torch_agrees(torch, arrays):
    x, W, b = (torch.tensor(a, requires_grad=True) for a in arrays)
    y = torch.nn.functional.linear(x, W, b)
    (y**2).sum().backward()
    _, gradients = value_and_gradients(lambda *a: (F.linear(*a) ** 2).sum(), arrays)
    for ours, theirs in zip(gradients, (x, W, b), strict=True):
        numpy.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-13)


def test_flatten(tape_library, rng):
    values = rng.standard_normal((2, 3, 4))
    x = tape_library.asarray(values)
    numpy.testing.assert_array_equal(to_numpy(F.flatten(x)), values.reshape(2, 12))
    check_gradients(F.flatten, [x])
    assert tuple(F.flatten(tape_library.asarray(numpy.zeros((0, 2, 3)))).shape) == (
        0,
        6,
    )


def test_empty_batch(tape_library, arrays):
    _, W, b = map(tape_library.asarray, arrays)
    x = tape_library.asarray(numpy.zeros((0, 5)))
    assert tuple(F.linear(x, W, b).shape) == (0, 3)


@pytest.mark.parametrize("shape", [(4, 6), (5,), (), (4, 5, 2)])
def test_wrong_shape_of_x(tape_library, arrays, shape):
    _, W, b = map(tape_library.asarray, arrays)
    x = tape_library.asarray(numpy.zeros(shape))
    expected = (
        r"linear: `x` must have shape \(batch, 5\), or hold 5 numbers an example, to "
        r"go with `W` of shape \(3, 5\); got "
    )
    with pytest.raises(ValueError, match=expected):
        F.linear(x, W, b)


def test_wrong_shape_of_b(tape_library, arrays):
    x, W, _ = map(tape_library.asarray, arrays)
    with pytest.raises(
        ValueError, match=r"linear: `b` must have shape \(3,\).*got \(5,\)"
    ):
        F.linear(x, W, tape_library.asarray(numpy.zeros(5)))


@pytest.mark.parametrize("argument", ["x", "b"])
def test_wrong_dtype(tape_library, arrays, argument):
    x, W, b = map(tape_library.asarray, arrays)
    single = tape_library.xp.float32
    if argument == "x":
        x = tape_library.xp.astype(x, single)
    else:
        b = tape_library.xp.astype(b, single)
    expected = (
        rf"linear: `{argument}` must have the dtype of `W`, \S*float64, got \S*float3"
    )
    with pytest.raises(TypeError, match=expected):
        F.linear(x, W, b)


def test_integers_are_refused(tape_library, arrays):
    _, W, b = map(tape_library.asarray, arrays)
    with pytest.raises(TypeError, match=r"got .*int64; convert the data once"):
        F.linear(tape_library.asarray(numpy.ones((4, 5), numpy.int64)), W, b)


def test_mixed_libraries(library, arrays):
    if library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    x, W, b = arrays
    for mixed in (
        (library.asarray(x), W, b),
        (x, library.asarray(W), library.asarray(b)),
        (x, W, library.asarray(b)),
    ):
        with pytest.raises(
            TypeError, match="all arrays must come from one library, got"
        ):
            F.linear(*mixed)


@pytest.mark.parametrize("wrong", [[[1.0] * 5], None, 3.0])
def test_what_is_no_array_is_refused(arrays, wrong):
    x, W, b = arrays
    for argument, values in (("x", (wrong, W, b)), ("W", (x, wrong, b))):
        expected = (
            f"^linear: `{argument}` must be an array, got {type(wrong).__name__}; "
            r"convert it first, for example with numpy\.asarray$"
        )
        with pytest.raises(TypeError, match=expected):
            F.linear(*values)
