"""Softmax cross-entropy: Bishop 2006, equation 4.108, averaged over the examples."""

from __future__ import annotations

import math

import numpy
import pytest
from scipy.special import logsumexp

from vdcore import functions as F
from vdcore.arrays import array_namespace, is_on_gpu, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

T = numpy.asarray([2, 0, 0, 4])


@pytest.fixture
def logits(rng):
    return 5 * rng.standard_normal((4, 5))


def oracle(x, t):
    """-log softmax of the right class, by SciPy's logsumexp."""
    return numpy.mean(logsumexp(x, axis=1) - x[numpy.arange(len(t)), t])


def test_value(library, logits):
    t = library.asarray(T)
    loss = F.softmax_cross_entropy(library.asarray(logits), t)
    assert tuple(loss.shape) == ()
    assert float(loss) == pytest.approx(oracle(logits, T), rel=1e-14)


@pytest.mark.parametrize("label_dtype", ["int32", "int64", "uint8"])
def test_float32(tape_library, logits, label_dtype):
    """On NumPy arrays the compiled kernel."""
    x = tape_library.asarray(logits.astype(numpy.float32))
    loss = F.softmax_cross_entropy(x, tape_library.asarray(T.astype(label_dtype)))
    assert loss.dtype == tape_library.xp.float32
    assert float(loss) == pytest.approx(oracle(logits, T), rel=1e-6)


def test_uniform_scores_cost_log_classes(tape_library):
    """-log(1 / 10), by hand."""
    x = tape_library.asarray(numpy.zeros((4, 10)))
    loss = F.softmax_cross_entropy(x, tape_library.asarray(T))
    assert float(loss) == pytest.approx(math.log(10), rel=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_scores_do_not_overflow(tape_library, dtype):
    """By hand: 0 and 10,000 nats."""
    x = numpy.asarray([[1e4, 0, -1e4], [0, 1e4, 0]], dtype)
    t = tape_library.asarray(numpy.asarray([0, 0]))
    loss = F.softmax_cross_entropy(tape_library.asarray(x), t)
    assert float(loss) == 5000


def test_gradients(tape_library, logits):
    t = tape_library.asarray(T)
    check_gradients(
        lambda x: F.softmax_cross_entropy(x, t), [tape_library.asarray(logits)]
    )


def test_fused_is_the_composition(tape_library, logits):
    """Equation 4.108 composed of traced operations, and differentiated by the tape."""
    t = tape_library.asarray(T)
    onehot = tape_library.asarray(numpy.eye(5)[T])

    def composed(x):
        xp = array_namespace(x)
        shifted = x - xp.max(x, axis=1, keepdims=True)
        normal = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
        return -xp.sum((shifted - normal) * onehot) / 4

    x = tape_library.asarray(logits)
    results = [
        value_and_gradients(f, [x])
        for f in (composed, lambda x: F.softmax_cross_entropy(x, t))
    ]
    assert float(results[0][0]) == pytest.approx(float(results[1][0]), rel=1e-14)
    first, second = (to_numpy(gradients[0]) for _, gradients in results)
    numpy.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_agrees(torch, logits, dtype):
    """The cross-entropy of torch, and its gradient."""
    logits = logits.astype(dtype)
    x = torch.tensor(logits, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(x, torch.tensor(T))
    theirs.backward()
    ours, (gradient,) = value_and_gradients(
        lambda x: F.softmax_cross_entropy(x, T), [logits]
    )
    rtol = 1e-6 if dtype == "float32" else 1e-14
    assert float(ours) == pytest.approx(theirs.item(), rel=rtol)
    numpy.testing.assert_allclose(gradient, x.grad.numpy(), rtol=20 * rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_classes_than_the_label_dtype_holds(tape_library, dtype):
    """By hand: log(e^10 + 299 e^0) for a class of score 0."""
    x = numpy.zeros((1, 300), dtype)
    x[0, 256] = 10.0
    t = tape_library.asarray(numpy.asarray([0], numpy.uint8))
    loss = F.softmax_cross_entropy(tape_library.asarray(x), t)
    assert float(loss) == pytest.approx(math.log(299 + math.exp(10)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_is_not_hidden(tape_library, logits, dtype):
    logits = logits.astype(dtype)
    logits[1, 3] = numpy.nan
    loss = F.softmax_cross_entropy(
        tape_library.asarray(logits), tape_library.asarray(T)
    )
    assert math.isnan(float(loss))


def test_errors(tape_library, logits):
    x, t = tape_library.asarray(logits), tape_library.asarray(T)
    name = "softmax_cross_entropy"
    with pytest.raises(ValueError, match=rf"{name}: .*got \(4, 5\) and \(3,\)"):
        F.softmax_cross_entropy(x, t[:3])
    with pytest.raises(
        ValueError, match=rf"{name}: expected `x` of shape \(batch, clas"
    ):
        F.softmax_cross_entropy(x[0, ...], t)
    with pytest.raises(TypeError, match=rf"{name}: `t` must hold integer .*float64"):
        F.softmax_cross_entropy(x, tape_library.xp.astype(t, tape_library.xp.float64))
    with pytest.raises(ValueError, match="the batch is empty"):
        F.softmax_cross_entropy(x[:0, :], t[:0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 5], r"`t` must lie in 0 .. 4 for 5 .* from 0 to 5"),
        ([0, 1, 2, -1], "got values from -1 to 2"),
    ],
)
def test_labels_out_of_range(tape_library, logits, labels, message):
    """An error; on a GPU, where to look at labels is to wait, a loss that is NaN."""
    x = tape_library.asarray(logits)
    t = tape_library.asarray(numpy.asarray(labels))
    if is_on_gpu(t):
        assert math.isnan(float(F.softmax_cross_entropy(x, t)))
        return
    with pytest.raises(ValueError, match=message):
        F.softmax_cross_entropy(x, t)


def test_scores_must_be_floating(tape_library):
    x = tape_library.asarray(numpy.ones((2, 3), numpy.int64))
    with pytest.raises(
        TypeError, match=r"softmax_cross_entropy: `x` must .*float.*int64"
    ):
        F.softmax_cross_entropy(x, tape_library.asarray(numpy.asarray([0, 1])))


def test_mixed_libraries(library, logits):
    if library.name == "numpy":
        pytest.skip("NumPy with NumPy is no mixture")
    with pytest.raises(TypeError, match="all arrays must come from one library"):
        F.softmax_cross_entropy(library.asarray(logits), T)


@pytest.mark.parametrize("wrong", [[0, 1, 2, 3], None])
@pytest.mark.parametrize("function", [F.softmax_cross_entropy, F.accuracy])
def test_what_is_no_array_is_refused(function, wrong):
    scores, labels = numpy.zeros((4, 5)), numpy.arange(4)
    for argument, values in (("x", (wrong, labels)), ("t", (scores, wrong))):
        expected = (
            f"^{function.__name__}: `{argument}` must be an array, got "
            rf"{type(wrong).__name__}; convert it first, .* numpy\.asarray$"
        )
        with pytest.raises(TypeError, match=expected):
            function(*values)
