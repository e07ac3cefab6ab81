"""float32 in, float32 out, values and gradients, for every function and library."""

from __future__ import annotations

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, is_traced, to_numpy, untraced
from vdcore.autodiff import value_and_gradients

LABELS = numpy.asarray([0, 2, 1, 1])
NOISE = numpy.random.default_rng(1).standard_normal((4, 3))


def images(x, W, s, noise):
    """Images, kernels and draws of a convolution, from the arrays of a linear map."""
    xp = array_namespace(x, W)
    return (
        xp.reshape(x, (1, 1, 4, 5)),
        *(xp.reshape(w, (3, 1, 5, 1)) for w in (W, s)),
        xp.reshape(noise, (1, 3, 4, 1)),
    )


def one_image(x):
    return array_namespace(x).reshape(x, (1, 1, 4, 5))


def columns(x, W):
    """A batch of three channels."""
    xp = array_namespace(x, W)
    return xp.matmul(x, xp.matrix_transpose(W))


def convolution_2d(x, W, s, b, noise):
    x, W, s, noise = images(x, W, s, noise)
    return F.convolution_2d(x, W, b, pad=(2, 0), dilate=(1, 2))


def vd_convolution_2d(x, W, s, b, noise):
    x, W, s, noise = images(x, W, s, noise)
    return F.vd_convolution_2d(
        x, W, s, b, noise, stride=(1, 5), pad=(2, 0), dilate=(1, 2)
    )


def sequence(x):
    """Two steps of a batch of four, three numbers each."""
    return array_namespace(x).stack([x[:, :3], x[:, 2:]], axis=0)


def square(W):
    """Lateral weights of one unit."""
    return W[:, :1]


def lstm(x, W, s):
    """One unit; both results."""
    xp = array_namespace(x, W)
    z = xp.stack([x[:, :4], x[:, 1:]], axis=0)
    hs, c = F.lstm(z, xp.matrix_transpose(W[:1, :4]), x[:, :1], x[:, 1:2])
    return hs + c


# Of x (4, 5), W (3, 5), log_sigma2 (3, 5), b (3,), labels and noise (4, 3).
CALLS = {
    "accuracy": lambda x, W, s, b, t, noise: F.accuracy(x, t),
    "average_pooling_2d": lambda x, W, s, b, t, noise: F.average_pooling_2d(
        one_image(x), 2, 1
    ),
    "batch_normalization": lambda x, W, s, b, t, noise: F.batch_normalization(
        columns(x, W), b, b
    ),
    "concat": lambda x, W, s, b, t, noise: F.concat([x, W], axis=0),
    "convolution_2d": lambda x, W, s, b, t, noise: convolution_2d(x, W, s, b, noise),
    "dropout": lambda x, W, s, b, t, noise: F.dropout(x, mask=x * 0 + 2),
    "embed_id": lambda x, W, s, b, t, noise: F.embed_id(t, x),
    "fixed_batch_normalization": lambda x, W, s, b, t, noise: (
        F.fixed_batch_normalization(columns(x, W), b, b, b, b * b + 1)
    ),
    "flatten": lambda x, W, s, b, t, noise: F.flatten(x),
    "gru": lambda x, W, s, b, t, noise: F.gru(sequence(x), square(W), b, x[:, :1]),
    "gru_cell": lambda x, W, s, b, t, noise: F.gru_cell(x[:, :3], noise, x[:, 3:4]),
    "linear": lambda x, W, s, b, t, noise: F.linear(x, W, b),
    "lstm": lambda x, W, s, b, t, noise: lstm(x, W, s),
    "lstm_cell": lambda x, W, s, b, t, noise: F.lstm_cell(x[:, :4], x[:, 4:])[1],
    "mean_squared_error": lambda x, W, s, b, t, noise: F.mean_squared_error(W, s),
    "max_pooling_2d": lambda x, W, s, b, t, noise: F.max_pooling_2d(one_image(x), 2, 1),
    "pad": lambda x, W, s, b, t, noise: F.pad(x, 1),
    "relu": lambda x, W, s, b, t, noise: F.relu(x),
    "rows": lambda x, W, s, b, t, noise: F.rows(x),
    "sample_weights": lambda x, W, s, b, t, noise: F.sample_weights(
        W[:, :3], s[:, :3], noise[:3, :]
    ),
    "sigmoid": lambda x, W, s, b, t, noise: F.sigmoid(x),
    "softmax": lambda x, W, s, b, t, noise: F.softmax(x),
    "softmax_cross_entropy": lambda x, W, s, b, t, noise: F.softmax_cross_entropy(x, t),
    "sparse_vd_kl": lambda x, W, s, b, t, noise: F.sparse_vd_kl(W, s)[0],
    "tanh": lambda x, W, s, b, t, noise: F.tanh(x),
    "tanh_rnn": lambda x, W, s, b, t, noise: F.tanh_rnn(
        sequence(x), W[:, :3], x[:, 1:4]
    ),
    "vd_convolution_2d": lambda x, W, s, b, t, noise: vd_convolution_2d(
        x, W, s, b, noise
    ),
    "vd_linear": lambda x, W, s, b, t, noise: F.vd_linear(x, W, s, b, noise),
}


def arrays_of(library, dtype):
    rng = numpy.random.default_rng(0)
    shapes = ((4, 5), (3, 5), (3, 5), (3,))
    values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    labels, noise = library.asarray(LABELS), library.asarray(NOISE.astype(dtype))
    return [library.asarray(v) for v in values], labels, noise


def test_every_function_is_in_the_table():
    assert sorted(CALLS) == sorted(F.__all__)


@pytest.mark.parametrize("name", list(CALLS))
def test_values(library, name):
    results = {}
    for dtype in ("float32", "float64"):
        arrays, labels, noise = arrays_of(library, dtype)
        result = CALLS[name](*arrays, labels, noise)
        assert type(result) is type(arrays[0]) or library.name == "numpy"
        assert result.dtype == getattr(library.xp, dtype)
        results[dtype] = to_numpy(result)
    # Both precisions agree, whichever kernels computed them.
    numpy.testing.assert_allclose(
        results["float32"], results["float64"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", [name for name in CALLS if name != "accuracy"])
def test_gradients(tape_library, name):
    results = {}
    for dtype in ("float32", "float64"):
        arrays, labels, noise = arrays_of(tape_library, dtype)

        def scalar(*traced, labels=labels, noise=noise):
            # A new copy each time, because kernels may consume the noise.
            result = CALLS[name](*traced, labels, noise * 1.0)
            assert is_traced(result)
            xp = array_namespace(result)
            return xp.sum(result * result)

        value, gradients = value_and_gradients(scalar, arrays)
        assert untraced(value).dtype == getattr(tape_library.xp, dtype)
        for array, gradient in zip(arrays, gradients, strict=True):
            assert type(gradient) is type(array)
            assert gradient.dtype == array.dtype
            assert tuple(gradient.shape) == tuple(array.shape)
        results[dtype] = [to_numpy(g) for g in gradients]
    for single, double in zip(results["float32"], results["float64"], strict=True):
        numpy.testing.assert_allclose(single, double, rtol=2e-4, atol=2e-4)
