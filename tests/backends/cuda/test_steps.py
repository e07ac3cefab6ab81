"""Operations as parts of steps that a GPU repeats by itself, without the host."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests import emulated_cupy
from tests.backends.cuda._compare import channels_last
from tests.conftest import HAS_GPU
from vdcore import kernels
from vdcore.arrays import to_numpy
from vdcore.windows import Window

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[3]
WINDOW = Window((3, 3), pad=(1, 1))
POOL = Window((2, 2), (2, 2))


def arguments_of(name, library):
    """Of each hot operation: arrays on the device, images with their channels last."""
    rng = numpy.random.default_rng(1)

    def array(*shape):
        x = library.asarray(rng.standard_normal(shape).astype(numpy.float32))
        return channels_last(x) if len(shape) == 4 and shape[2:] != (3, 3) else x

    def number(value, dtype):
        return library.asarray(numpy.asarray(value, dtype))

    x, gy, noise = array(9, 12), array(9, 5), array(9, 5)
    theta, log_sigma2, b = array(5, 12), array(5, 12), array(5)
    images, slopes, draws = array(4, 6, 6, 5), array(4, 8, 6, 5), array(4, 8, 6, 5)
    W, W_log_sigma2, Wb = array(8, 6, 3, 3), array(8, 6, 3, 3), array(8)
    gamma, beta, mean, variance = array(6), array(6), array(6), abs(array(6))
    pooled = array(4, 6, 3, 3)
    pooled, places = channels_last(pooled), channels_last(pooled.astype(numpy.int32))
    half, one = number(0.5, numpy.float32), number(1, numpy.int32)
    conv, fixed = (WINDOW, 1), (gamma, mean, variance, 1e-5)
    labels = library.asarray(numpy.arange(9) % 5)
    sums = ([number(k, numpy.float32) for k in range(3)],) * 3
    # Three steps of a batch of 2 with 4 units, of as many gates as a network has.
    h, c, hs, cs = array(2, 4), array(2, 4), array(3, 2, 4), array(3, 2, 4)
    z1, z3, z4 = array(3, 2, 4), array(3, 2, 12), array(3, 2, 16)
    W1, W3, W4, b3 = array(4, 4), array(12, 4), array(16, 4), array(12)
    ids = library.asarray(numpy.arange(2000) % 7)
    return {
        "accuracy": (gy, labels),
        "add_each": ([theta, x], [log_sigma2, x]),
        "adam": ([theta], [x[:5]], [log_sigma2], [theta**2], half, 0.9, 0.9, 0.1, one),
        "average_pooling_backward": (pooled, POOL, (6, 5)),
        "average_pooling_forward": (images, POOL),
        "average_statistics": (gamma, beta, mean, variance, 0.9, 1.1),
        "batch_normalization_backward": (images, images, *fixed),
        "batch_normalization_forward": (images, gamma, beta, 1e-5),
        "convolution_backward": (slopes, images, W, *conv, True),
        "convolution_forward": (images, W, Wb, *conv),
        "dropout_mask": (images, rng, 0.5),
        "embed_backward": (array(2000, 12), ids, theta),
        "embed_forward": (theta, ids),
        "fixed_batch_normalization_backward": (images, images, *fixed),
        "fixed_batch_normalization_forward": (images, gamma, beta, *fixed[1:]),
        "gru_backward": (hs, W3, b3, h, hs, z4),
        "gru_cell_backward": (h, c, z4[0]),
        "gru_cell_forward": (z3[0], z3[1], h),
        "gru_forward": (z3, W3, b3, h),
        "gru_recompute": (z3, W3, b3, h, hs),
        "linear_backward": (gy, x, theta, True),
        "linear_forward": (x, theta, b),
        "lstm_backward": (hs, c, W4, h, c, hs, cs, z4),
        "lstm_cell_backward": (h, c, c, cs[0], z4[0]),
        "lstm_cell_forward": (z4[0], c),
        "lstm_forward": (z4, W4, h, c),
        "lstm_recompute": (z4, W4, h, c, hs),
        "max_pooling_backward": (pooled, places, POOL, (6, 5)),
        "max_pooling_forward": (images, POOL, True),
        "relu_backward": (images, images),
        "relu_forward": (images,),
        "sample_weights": (theta, log_sigma2, theta, 1.0),
        "sample_weights_backward": (theta, theta, log_sigma2, theta, 1.0),
        "softmax_cross_entropy": (gy, labels),
        "sparse_vd_penalty": (theta, log_sigma2, 3.0, True, "exact", 8.0, half),
        "standard_normal": (x, rng, (4, 3, 5, 5)),
        "tanh_rnn_backward": (hs, W1, h, hs),
        "tanh_rnn_forward": (z1, W1, h),
        "total_penalty": (*sums, [1.0] * 3, [half] * 3, 99),
        "vd_convolution_backward": (
            *(slopes, images, W, W_log_sigma2, draws, 1.0, *conv, True),
        ),
        "vd_convolution_forward": (images, W, W_log_sigma2, Wb, draws, 1.0, *conv),
        "vd_linear_backward": (gy, x, theta, log_sigma2, noise, 1.0, True),
        "vd_linear_forward": (x, theta, log_sigma2, b, noise, 1.0),
        "watch_loss": (half, one, one + 1),
    }[name]


def flattened(results):
    if isinstance(results, tuple | list):
        return [array for part in results for array in flattened(part)]
    return [results]


@pytest.fixture(params=[name for name in kernels.__all__ if name.islower()])
def name(request):
    """Every kernel of the table."""
    return request.param


def test_an_operation_can_be_recorded(cupy_library, name):
    """A copy to the host, or from it, or a wait for the GPU would be an error."""
    import cupy

    kernel = getattr(kernels, name)
    expected = flattened(kernel(*arguments_of(name, cupy_library)))
    arguments = arguments_of(name, cupy_library)
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    cupy.cuda.Device().synchronize()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        recorded = flattened(kernel(*arguments))
        graph = stream.end_capture()
        graph.launch(stream)
    stream.synchronize()
    for ours, theirs in zip(recorded, expected, strict=True):
        numpy.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


# Kernels that one call starts, those of cuBLAS counted in.
LAUNCHES = {
    "accuracy": 1,
    "add_each": 1,
    "linear_backward": 4,
    "linear_forward": 2,
    "total_penalty": 1,
    "adam": 1,
    "average_pooling_backward": 1,
    "average_pooling_forward": 1,
    "average_statistics": 1,
    "batch_normalization_backward": 3,
    "batch_normalization_forward": 3,
    "convolution_backward": 6,
    "convolution_forward": 4,
    "dropout_mask": 1,
    "embed_backward": 5,
    "embed_forward": 1,
    "fixed_batch_normalization_backward": 2,
    "fixed_batch_normalization_forward": 1,
    "gru_backward": 10,
    "gru_cell_backward": 1,
    "gru_cell_forward": 1,
    "gru_forward": 6,
    "gru_recompute": 3,
    "lstm_backward": 8,
    "lstm_cell_backward": 1,
    "lstm_cell_forward": 1,
    "lstm_forward": 6,
    "lstm_recompute": 3,
    "max_pooling_backward": 1,
    "max_pooling_forward": 1,
    "relu_backward": 1,
    "relu_forward": 1,
    "sample_weights": 1,
    "sample_weights_backward": 1,
    "softmax_cross_entropy": 1,
    "sparse_vd_penalty": 2,
    "standard_normal": 1,
    "tanh_rnn_backward": 8,
    "tanh_rnn_forward": 6,
    "vd_convolution_backward": 6,
    "vd_convolution_forward": 4,
    "vd_linear_backward": 4,
    "vd_linear_forward": 3,
    "watch_loss": 1,
}


@pytest.mark.skipif(HAS_GPU, reason="it is the emulated CuPy that counts")
def test_launches(cupy_library, name, monkeypatch):
    from vdcore.backends.cuda import convolution, unfolding

    monkeypatch.setattr(convolution, "engine", unfolding)  # not cuDNN
    arguments = arguments_of(name, cupy_library)
    with emulated_cupy.transfers() as counts:
        getattr(kernels, name)(*arguments)
    assert counts.launches == LAUNCHES[name]
    assert (counts.to_device, counts.to_host, counts.synchronizations) == (0, 0, 0)


def test_numbers_on_the_device_are_those_of_the_host(cupy_library, rng):
    theta, log_sigma2 = (
        cupy_library.asarray(rng.standard_normal((5, 7)).astype(numpy.float32))
        for _ in range(2)
    )
    number = cupy_library.asarray(numpy.asarray(0.3, numpy.float32))
    by_number, by_array = (
        kernels.sparse_vd_penalty(theta, log_sigma2, 3.0, True, "exact", 8.0, scale)
        for scale in (0.3, number)
    )
    for a, b in zip(by_number, by_array, strict=True):
        numpy.testing.assert_array_equal(to_numpy(a), to_numpy(b))
    by_number, by_array = (
        kernels.adam(
            [theta + 0], [theta], [theta + 0], [theta**2], step, 0.9, 0.99, 1e-8
        )
        for step in (0.3, number)
    )
    for (a,), (b,) in zip(by_number, by_array, strict=True):
        numpy.testing.assert_array_equal(to_numpy(a), to_numpy(b))


def test_arrays_are_on_the_tape_before_any_kernel_is_called(cupy_library):
    """In a process of its own: here the backend is loaded already."""
    program = """
import sys
from tests.conftest import pytest_configure
pytest_configure()
import cupy
from vdcore.arrays import array_namespace
from vdcore.autodiff import value_and_gradients
assert "vdcore.backends.cupy_backend" not in sys.modules
x = cupy.asarray([1, 2], cupy.float32)
value, (gradient,) = value_and_gradients(lambda x: array_namespace(x).sum(x * x), [x])
assert float(value) == 5 and gradient.get().tolist() == [2, 4]
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_compiled_once_for_each_file(cupy_library):
    from vdcore.backends.cuda import module

    kernels.relu_forward(cupy_library.asarray(numpy.ones(3, numpy.float32)))
    before = module._compiled.cache_info().misses
    kernels.relu_backward(*[cupy_library.asarray(numpy.ones(3, numpy.float32))] * 2)
    assert module._compiled.cache_info().misses == before
