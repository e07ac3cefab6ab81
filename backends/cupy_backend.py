"""Hot operations on CuPy arrays: fused CUDA kernels, and cuBLAS for products.

Kernels take float32 arrays of fewer than 2^31 elements; everything else goes to the
generic definition. No operation waits for the GPU or copies between it and the host,
and numbers that change from step to step may lie on the device, so that a step can be
recorded as a CUDA graph. Each gives the same bits whenever it is run on one kind of
GPU: nothing is summed in an order that varies.
"""

from __future__ import annotations

import functools
import math

import cupy
import numpy

from vdcore import kernels
from vdcore.autodiff import register_array_type
from vdcore.backends.cuda import (
    activation,
    convolution,
    embedding,
    gru,
    linear,
    loss,
    lstm,
    noise,
    normalization,
    optimizers,
    penalty,
    pooling,
    sampling,
    tanh_rnn,
)

FLOAT32 = numpy.dtype(numpy.float32)
LIMIT = 2**31  # elements: indices have 32 bits

register_array_type(cupy.ndarray)


def _taken(*arrays) -> bool:
    """Whether kernels take these arrays, of any order in memory."""
    return all(x.dtype == FLOAT32 and 0 < x.size < LIMIT for x in arrays)


def _contiguous(*arrays) -> bool:
    return _taken(*arrays) and all(x.flags.c_contiguous for x in arrays)


def _override(kernel, fused):
    """Let a fused function take float32 arrays, and the definition all others."""

    @kernel.override("cupy")
    @functools.wraps(fused)
    def choose(*args):
        first, others = args[0], (x for x in args[1:] if isinstance(x, cupy.ndarray))
        if _taken(first, *(x for x in others if x.dtype.kind == "f")):
            return fused(*args)
        return kernel.generic(*args)


for _module, _names in (
    (activation, "relu_forward relu_backward"),
    (
        pooling,
        "max_pooling_forward max_pooling_backward "
        "average_pooling_forward average_pooling_backward",
    ),
    (
        lstm,
        "lstm_cell_forward lstm_cell_backward lstm_forward lstm_backward "
        "lstm_recompute",
    ),
    (
        gru,
        "gru_cell_forward gru_cell_backward gru_forward gru_backward gru_recompute",
    ),
    (tanh_rnn, "tanh_rnn_forward tanh_rnn_backward"),
    (sampling, "sample_weights sample_weights_backward"),
    (embedding, "embed_backward"),
):
    for _name in _names.split():
        _override(getattr(kernels, _name), getattr(_module, _name))


@kernels.standard_normal.override("cupy")
def standard_normal(like, rng, shape):
    """Take float32, from a key of 128 bits that the generator yields."""
    if like.dtype == FLOAT32 and 0 < math.prod(shape) < LIMIT:
        return noise.standard_normal(like, rng, shape)
    return kernels.standard_normal.generic(like, rng, shape)


@kernels.dropout_mask.override("cupy")
def dropout_mask(like, rng, ratio):
    """Take float32, from a key of 128 bits that the generator yields."""
    if _taken(like):
        return noise.dropout_mask(like, rng, ratio)
    return kernels.dropout_mask.generic(like, rng, ratio)


@kernels.sparse_vd_penalty.override("cupy")
def sparse_vd_penalty(theta, log_sigma2, threshold, masked, kl, clip, scale):
    """Take contiguous float32; `scale` may lie on the device."""
    arguments = (theta, log_sigma2, threshold, masked, kl, clip, scale)
    if _contiguous(theta, log_sigma2) and _is_number(scale):
        return penalty.sparse_vd_penalty(*arguments)
    return kernels.sparse_vd_penalty.generic(*arguments)


def _is_number(x) -> bool:
    """Whether `x` is a number of the host, or a float32 one of the device."""
    return not isinstance(x, cupy.ndarray) or (x.shape == () and x.dtype == FLOAT32)


@kernels.linear_forward.override("cupy")
def linear_forward(x, W, b):
    """Take float32 activations of any order, and contiguous weights."""
    if _taken(x) and _contiguous(W, *_given(b)):
        return linear.plain_forward(x, W, b)
    return kernels.linear_forward.generic(x, W, b)


@kernels.linear_backward.override("cupy")
def linear_backward(gy, x, W, need_x):
    """Take float32 activations of any order, and contiguous weights."""
    if _taken(gy, x) and _contiguous(W):
        return linear.plain_backward(gy, x, W, need_x)
    return kernels.linear_backward.generic(gy, x, W, need_x)


@kernels.vd_linear_forward.override("cupy")
def vd_linear_forward(x, theta, log_sigma2, b, noise, threshold):
    """Take float32 activations of any order, and contiguous weights."""
    arguments = (x, theta, log_sigma2, b, noise, threshold)
    if _taken(x, noise) and _contiguous(theta, log_sigma2, *_given(b)):
        return linear.forward(*arguments)
    return kernels.vd_linear_forward.generic(*arguments)


@kernels.vd_linear_backward.override("cupy")
def vd_linear_backward(gy, x, theta, log_sigma2, residual, threshold, need_x):
    """Take float32 activations of any order, and contiguous weights."""
    arguments = (gy, x, theta, log_sigma2, residual, threshold, need_x)
    if _taken(gy, x, residual) and _contiguous(theta, log_sigma2):
        return linear.backward(*arguments)
    return kernels.vd_linear_backward.generic(*arguments)


def _given(b):
    return () if b is None else (b,)


@kernels.convolution_forward.override("cupy")
def convolution_forward(x, W, b, window, groups):
    """Take float32 images of any order, and contiguous weights."""
    if _convolvable(x, window) and _contiguous(W, *_given(b)):
        return convolution.forward(x, W, b, window, groups)
    return kernels.convolution_forward.generic(x, W, b, window, groups)


@kernels.convolution_backward.override("cupy")
def convolution_backward(gy, x, W, window, groups, need_x):
    """Take float32 images of any order, and contiguous weights."""
    if _convolvable(x, window, gy) and _contiguous(W):
        return convolution.backward(gy, x, W, window, groups, need_x)
    return kernels.convolution_backward.generic(gy, x, W, window, groups, need_x)


@kernels.vd_convolution_forward.override("cupy")
def vd_convolution_forward(x, theta, log_sigma2, b, noise, threshold, window, groups):
    """Take float32 images of any order, and contiguous weights."""
    arguments = (x, theta, log_sigma2, b, noise, threshold, window, groups)
    weights = (theta, log_sigma2, *_given(b))
    if _convolvable(x, window, noise) and _contiguous(*weights):
        return convolution.noisy_forward(*arguments)
    return kernels.vd_convolution_forward.generic(*arguments)


@kernels.vd_convolution_backward.override("cupy")
def vd_convolution_backward(
    gy, x, theta, log_sigma2, residual, threshold, window, groups, need_x
):
    """Take float32 images of any order, and contiguous weights."""
    arguments = (gy, x, theta, log_sigma2, residual, threshold, window, groups, need_x)
    if _convolvable(x, window, gy, residual) and _contiguous(theta, log_sigma2):
        return convolution.noisy_backward(*arguments)
    return kernels.vd_convolution_backward.generic(*arguments)


def _convolvable(x, window, *others):
    """Whether kernels take these images, and index the columns of one of them."""
    columns = math.prod((*window.size, *window.positions(x.shape[2:]), x.shape[1]))
    return _taken(x, *others) and columns < LIMIT


@kernels.softmax_cross_entropy.override("cupy")
def softmax_cross_entropy(logits, t):
    """Take float32 scores and labels of 32 or 64 bits."""
    if _taken(logits) and t.dtype.name in ("int32", "int64"):
        return loss.softmax_cross_entropy(*map(cupy.ascontiguousarray, (logits, t)))
    return kernels.softmax_cross_entropy.generic(logits, t)


@kernels.accuracy.override("cupy")
def accuracy(scores, t):
    """Take float32 scores and labels of 32 or 64 bits."""
    if _taken(scores) and t.dtype.name in ("int32", "int64"):
        return loss.accuracy(*map(cupy.ascontiguousarray, (scores, t)))
    return kernels.accuracy.generic(scores, t)


@kernels.total_penalty.override("cupy")
def total_penalty(values, rate_sums, kept, scales, factors, size):
    """Take float32 sums of as many layers as one launch holds."""
    arrays = (*values, *rate_sums, *kept)
    if (
        len(values) <= penalty.LAYERS
        and all(x.dtype == FLOAT32 for x in arrays)
        and all(map(_is_number, factors))
    ):
        return penalty.total_penalty(values, rate_sums, kept, scales, factors, size)
    return kernels.total_penalty.generic(values, rate_sums, kept, scales, factors, size)


@kernels.add_each.override("cupy")
def add_each(first, second):
    """Take float32 arrays, of any number by one launch."""
    if not _taken(*first, *second):
        return kernels.add_each.generic(first, second)
    contiguous = (list(map(cupy.ascontiguousarray, x)) for x in (first, second))
    return optimizers.add_each(*contiguous)


@kernels.adam.override("cupy")
def adam(parameters, gradients, ms, vs, step, beta1, beta2, eps, finite=None):
    """Take contiguous float32 in place, of any number of arrays by one launch."""
    results = [list(arrays) for arrays in (parameters, ms, vs)]
    numbers = (step, beta1, beta2, eps, finite)
    fused = []
    rows = zip(parameters, gradients, ms, vs, strict=True)
    for k, (parameter, gradient, m, v) in enumerate(rows):
        if _contiguous(parameter, m, v) and _taken(gradient) and _is_number(step):
            fused.append((parameter, cupy.ascontiguousarray(gradient), m, v))
            continue
        updated = kernels.adam.generic([parameter], [gradient], [m], [v], *numbers)
        for arrays, (array,) in zip(results, updated, strict=True):
            arrays[k] = array
    if fused:
        optimizers.adam(*map(list, zip(*fused, strict=True)), *numbers)
    return tuple(results)


@kernels.watch_loss.override("cupy")
def watch_loss(loss, finite, updates):
    """Take float32 losses, in place."""
    if _taken(loss):
        return optimizers.watch_loss(loss, finite, updates)
    return kernels.watch_loss.generic(loss, finite, updates)


@kernels.embed_forward.override("cupy")
def embed_forward(W, ids):
    """Take float32 tables."""
    if _taken(W) and 0 < ids.size * W.shape[1] < LIMIT:
        return embedding.embed_forward(W, ids)
    return kernels.embed_forward.generic(W, ids)


def _by_channel(kernel, fused):
    """Let a fused function take float32 arrays, vectors by channel contiguous."""

    @kernel.override("cupy")
    @functools.wraps(fused)
    def choose(*args):
        *arrays, _ = args
        vectors = [x for x in arrays if x.ndim == 1]
        if _taken(*arrays) and _contiguous(*vectors):
            return fused(*args)
        return kernel.generic(*args)


for _name in (
    "batch_normalization_forward",
    "batch_normalization_backward",
    "fixed_batch_normalization_forward",
    "fixed_batch_normalization_backward",
):
    _by_channel(getattr(kernels, _name), getattr(normalization, _name))


@kernels.average_statistics.override("cupy")
def average_statistics(avg_mean, avg_variance, mean, variance, decay, correction):
    """Take contiguous float32, in place."""
    arguments = (avg_mean, avg_variance, mean, variance, decay, correction)
    if _contiguous(*arguments[:4]):
        return normalization.average_statistics(*arguments)
    return kernels.average_statistics.generic(*arguments)
