"""Rectifier, penalty, loss and updates against their generic definitions."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_close, assert_same, both
from vdcore import kernels
from vdcore.arrays import to_numpy

pytestmark = pytest.mark.gpu

SIZES = (1, 3, 31, 33, 257, 1000, 5000)
SHAPES = [(1,), (3, 31), (2, 3, 5, 7), (257, 5), (2, 33, 4)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rectifier(cupy_library, rng, shape, layout):
    x, gy = rng.standard_normal((2, *shape)).astype(numpy.float32)
    x.flat[0] = 0
    assert_same(kernels.relu_forward, cupy_library, x, layout=layout, tolerance=0)
    y = numpy.maximum(x, 0)
    assert_same(kernels.relu_backward, cupy_library, gy, y, layout=layout, tolerance=0)


def test_rectifier_of_what_is_not_a_number(cupy_library):
    x = numpy.asarray([numpy.nan, -numpy.inf, numpy.inf, -0.0, 1], numpy.float32)
    y = to_numpy(kernels.relu_forward(cupy_library.asarray(x)))
    numpy.testing.assert_array_equal(y, [numpy.nan, 0, numpy.inf, 0, 1])


def test_rectifier_keeps_the_order_of_memory(cupy_library, rng):
    x = rng.standard_normal((2, 5, 3, 4)).astype(numpy.float32)
    x = cupy_library.asarray(x).transpose(0, 3, 1, 2)
    y = kernels.relu_forward(x)
    assert y.strides == x.strides
    gy = cupy_library.asarray(rng.standard_normal(x.shape).astype(numpy.float32))
    assert kernels.relu_backward(gy, y).strides == x.strides


def weights(rng, shape):
    theta = rng.standard_normal(shape).astype(numpy.float32) * 0.3
    log_sigma2 = rng.uniform(-12, 4, shape).astype(numpy.float32)
    theta.flat[0] = 0
    return theta, log_sigma2


@pytest.mark.parametrize("clip", [None, 8.0])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kl", list(kernels.KL))
def test_penalty(cupy_library, rng, kl, masked, clip):
    for size in SIZES:
        arguments = (*weights(rng, size), 3.0, masked, kl, clip, 0.25)
        assert_same(kernels.sparse_vd_penalty, cupy_library, *arguments)


@pytest.mark.parametrize("kl", list(kernels.KL))
def test_penalty_far_out(cupy_library, kl):
    """Log alpha from -200 to 200: neither overflows nor hides a NaN."""
    log_sigma2 = numpy.linspace(-200, 200, 37, dtype=numpy.float32)
    theta = numpy.ones_like(log_sigma2)
    arguments = (theta, log_sigma2, 3.0, False, kl, None, 1.0)
    assert_same(kernels.sparse_vd_penalty, cupy_library, *arguments)
    theta[5] = numpy.nan
    ours, _ = both(kernels.sparse_vd_penalty, cupy_library, *arguments)
    assert numpy.isnan(to_numpy(ours.value))
    assert numpy.isnan(to_numpy(ours.theta_gradient)).tolist() == [
        k == 5 for k in range(37)
    ]


def test_penalty_of_more_than_a_grid(cupy_library, rng, monkeypatch):
    from vdcore.backends.cuda import penalty

    monkeypatch.setattr(penalty, "BLOCKS", 2)
    arguments = (*weights(rng, (67, 79)), 3.0, True, "molchanov", 8.0, 1.0)
    assert_same(kernels.sparse_vd_penalty, cupy_library, *arguments)


def test_penalty_of_an_array_that_begins_anywhere(cupy_library, rng):
    theta, log_sigma2 = weights(rng, 38)
    on_device = [cupy_library.asarray(a)[1:] for a in (theta, log_sigma2)]
    options = (3.0, False, "exact", None, 1.0)
    ours = kernels.sparse_vd_penalty(*on_device, *options)
    exact = (theta[1:].astype(float), log_sigma2[1:].astype(float))
    expected = kernels.sparse_vd_penalty.generic(*exact, *options)
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("labels", [numpy.int32, numpy.int64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("classes", [1, 10, 33, 257])
@pytest.mark.parametrize("batch", [1, 31, 300])
def test_softmax_cross_entropy(cupy_library, rng, batch, classes, layout, labels):
    logits = rng.standard_normal((batch, classes)).astype(numpy.float32) * 5
    t = rng.integers(0, classes, batch).astype(labels)
    kernel = kernels.softmax_cross_entropy
    assert_same(kernel, cupy_library, logits, t, layout=layout)


def test_softmax_cross_entropy_of_other_labels(cupy_library, rng):
    logits = rng.standard_normal((5, 3)).astype(numpy.float32)
    t = numpy.asarray([0, 1, 2, 1, 0], numpy.uint8)
    assert_same(kernels.softmax_cross_entropy, cupy_library, logits, t)


@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1])
def test_a_label_out_of_range_makes_the_loss_nan(cupy_library, label):
    logits = cupy_library.asarray(numpy.ones((2, 3), numpy.float32))
    t = cupy_library.asarray(numpy.asarray([0, label], numpy.int32))
    loss, _ = kernels.softmax_cross_entropy(logits, t)
    assert numpy.isnan(to_numpy(loss))


def test_scores_without_a_softmax(cupy_library):
    infinite = numpy.asarray([[numpy.inf, 0], [0, 0]], numpy.float32)
    nothing = numpy.asarray([[numpy.nan, 0], [0, 0]], numpy.float32)
    t = cupy_library.asarray(numpy.zeros(2, numpy.int32))
    for logits in (infinite, nothing):
        loss, _ = kernels.softmax_cross_entropy(cupy_library.asarray(logits), t)
        assert numpy.isnan(to_numpy(loss))


def states(rng, sizes, dtype=numpy.float32):
    """Parameters, gradients, and moments of each."""
    lists = [[rng.standard_normal(n).astype(dtype) for n in sizes] for _ in range(4)]
    lists[3] = [abs(v) for v in lists[3]]
    return lists


def assert_updates(library, lists, step, finite=None):
    on_device = [[library.asarray(x) for x in arrays] for arrays in lists]
    exact = [[x.astype(float) for x in arrays] for arrays in lists]
    options = (0.9, 0.999, 1e-8)
    ours = kernels.adam(*on_device, step, *options, finite)
    expected = kernels.adam.generic(*exact, to_numpy(step), *options)
    for arrays, exact_arrays in zip(ours, expected, strict=True):
        for a, b in zip(arrays, exact_arrays, strict=True):
            numpy.testing.assert_allclose(to_numpy(a), b, rtol=1e-5, atol=1e-6)
    return on_device, ours


@pytest.mark.parametrize("count", [1, 7, 64, 65, 130])
def test_adam_of_many_arrays(cupy_library, rng, count):
    sizes = [SIZES[k % len(SIZES)] for k in range(count)]
    old, new = assert_updates(cupy_library, states(rng, sizes), 0.01)
    for before, after in zip(old[0], new[0], strict=True):
        assert before is after  # in place


def test_adam_of_more_than_a_block(cupy_library, rng):
    assert_updates(cupy_library, states(rng, [4096, 4097, 8191, 1]), 0.01)


def test_adam_of_gradients_in_another_order(cupy_library, rng):
    lists = states(rng, [(5, 7)])
    lists[1] = [numpy.asfortranarray(g) for g in lists[1]]
    on_device = [[cupy_library.asarray(x) for x in arrays] for arrays in lists]
    on_device[1] = [cupy_library.asarray(lists[1][0].T.copy()).T]
    ours = kernels.adam(*on_device, 0.1, 0.9, 0.999, 1e-8)
    expected = kernels.adam.generic(*lists, 0.1, 0.9, 0.999, 1e-8)
    for (a,), (b,) in zip(ours, expected, strict=True):
        numpy.testing.assert_allclose(to_numpy(a), b, rtol=1e-5, atol=1e-6)


def test_adam_takes_what_it_can_and_leaves_the_rest(cupy_library, rng):
    lists = states(rng, [5, 7, 9])
    for arrays in lists:
        arrays[1] = arrays[1].astype(float)
    old, new = assert_updates(cupy_library, lists, 0.01)
    assert [a is b for a, b in zip(old[0], new[0], strict=True)] == [True, False, True]
    assert new[0][1].dtype == numpy.float64


def test_adam_keeps_small_rates_of_decay(cupy_library):
    """1 - beta2 as a float32 number of its own, not 1 less one: that is 5e-5 off."""
    numbers = (1, 1, 0, 0)
    arrays = [[cupy_library.asarray(numpy.full(1, n, numpy.float32))] for n in numbers]
    _, _, (v,) = kernels.adam(*arrays, 0.1, 0.9, 0.999, 1e-8)
    numpy.testing.assert_allclose(to_numpy(v), [0.001], rtol=1e-6)


@pytest.mark.parametrize("finite", [0, 1])
def test_adam_changes_nothing_after_a_loss_that_was_not_finite(
    cupy_library, rng, finite
):
    lists = states(rng, [5, 40])
    on_device = [[cupy_library.asarray(x) for x in arrays] for arrays in lists]
    flag = cupy_library.asarray(numpy.asarray(finite, numpy.int32))
    new = kernels.adam(*on_device, 0.1, 0.9, 0.999, 1e-8, flag)
    changed = [
        not numpy.array_equal(to_numpy(a), b)
        for arrays, old in zip(new, (lists[0], *lists[2:]), strict=True)
        for a, b in zip(arrays, old, strict=True)
    ]
    assert set(changed) == {bool(finite)}


@pytest.mark.parametrize("loss", [1.5, numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("before", [0, 1])
def test_watch_on_losses(cupy_library, loss, before):
    arguments = [numpy.asarray(loss, numpy.float32)]
    arguments += [numpy.asarray(n, numpy.int32) for n in (before, 7)]
    assert_same(kernels.watch_loss, cupy_library, *arguments)


@pytest.mark.parametrize("layers", [1, 3, 33, 64, 65])
def test_total_penalty(cupy_library, rng, layers):
    """More layers than one launch takes go to the definition."""
    sums = rng.random((3, layers)).astype(numpy.float32)
    sums[2] = rng.integers(0, 9, layers)
    scales, factors = rng.random((2, layers)).tolist()
    on_device = [list(map(cupy_library.asarray, row)) for row in sums]
    live = [cupy_library.asarray(numpy.float32(x)) for x in factors[::2]]
    mixed = [*factors]
    mixed[::2] = live
    ours = kernels.total_penalty(*on_device, scales, mixed, 1000)
    expected = kernels.total_penalty.generic(*sums.astype(float), scales, factors, 1000)
    for a, b in zip(ours, expected, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (100, 33), (300, 100)], ids=str)
def test_accuracy(cupy_library, rng, shape, dtype):
    scores = rng.integers(0, 9, shape).astype(numpy.float32)  # many equals
    labels = numpy.where(rng.random(shape[0]) < 0.5, scores.argmax(axis=1), 0)
    labels = labels.astype(dtype)
    ours = kernels.accuracy(*map(cupy_library.asarray, (scores, labels)))
    expected = kernels.accuracy.generic(scores.astype(float), labels)
    assert float(ours) == pytest.approx(float(expected), rel=1e-6)


def test_sums_of_more_gradients_than_one_launch_takes(cupy_library, rng):
    sizes = [1, 3, 4097, *range(1, 140)]
    arrays = [rng.standard_normal((2, size)).astype(numpy.float32) for size in sizes]
    first, second = (
        [cupy_library.asarray(array[k]) for array in arrays] for k in (0, 1)
    )
    for total, (a, b) in zip(kernels.add_each(first, second), arrays, strict=True):
        numpy.testing.assert_array_equal(to_numpy(total), a + b)
