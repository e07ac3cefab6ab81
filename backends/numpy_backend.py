"""Hot operations on NumPy arrays: compiled by numba, or NumPy a cache block at a time.

Compiled kernels take contiguous float32 arrays; everything else goes to the generic
definition. They share their work between threads in pieces that do not depend on the
number of threads, so neither do results.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math

import numpy

from vdcore import kernels
from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.cpu.layout import feature_major
from vdcore.backends.cpu.memory import empty, empty_like
from vdcore.backends.cpu.threads import thread_count

COMPILED = numba_or_none() is not None
if COMPILED:
    from vdcore.backends.cpu import (
        activation,
        convolution,
        elementwise,
        embedding,
        large_noisy_linear,
        linear,
        lstm,
        masked_convolution,
        masked_linear,
        noisy_linear,
        normalization,
        pooling,
        sampling,
    )
    from vdcore.backends.cpu.elementwise import PIECE
    from vdcore.backends.cpu.masked_linear import kept_weights
    from vdcore.backends.cpu.normal import draw
    from vdcore.backends.cpu.team import team
    from vdcore.backends.cpu.transposition import contiguous

FLOAT32 = numpy.dtype(numpy.float32)  # comparing with it is faster than with the class
# Elements below which arrays may lie so close together in memory that compiled code,
# which must allow for overlaps, sums them in another order.
SMALLEST = 256
LARGE_MATRIX = 2**18  # numbers of one that lies row by row, as what takes it reads it
BLOCK = 8192  # elements of float32 that stay in the first-level cache, six arrays of it


def description() -> str:
    """Which path the hot operations take, in words for a report."""
    path = "NumPy, cache-blocked"
    if COMPILED:
        path = f"numba {importlib.metadata.version('numba')}"
    return f"{path}, {thread_count()} threads"


def _compilable(x: numpy.ndarray) -> bool:
    return x.dtype == FLOAT32 and x.flags.c_contiguous


def _override(kernel, compiled):
    """Let a compiled function take float32 arrays, and the definition all others."""

    @kernel.override("numpy")
    @functools.wraps(compiled)
    def choose(*args):
        first, others = args[0], (x for x in args[1:] if isinstance(x, numpy.ndarray))
        if (
            COMPILED
            and first.dtype == FLOAT32
            and first.ndim > 0
            and all(x.dtype == FLOAT32 or x.dtype.kind != "f" for x in others)
        ):
            return compiled(*args)
        return kernel.generic(*args)


if COMPILED:
    for _module, _names in (
        (activation, "relu_forward relu_backward dropout_mask"),
        (embedding, "embed_backward"),
        (linear, "linear_forward linear_backward"),
        (lstm, "lstm_forward lstm_backward"),
        (
            normalization,
            "batch_normalization_forward batch_normalization_backward "
            "fixed_batch_normalization_forward fixed_batch_normalization_backward",
        ),
        (
            pooling,
            "max_pooling_forward max_pooling_backward "
            "average_pooling_forward average_pooling_backward",
        ),
        (sampling, "sample_weights sample_weights_backward"),
    ):
        for _name in _names.split():
            _override(getattr(kernels, _name), getattr(_module, _name))


@kernels.standard_normal.override("numpy")
def standard_normal(like, rng, shape):
    """Take float32, from a key of 128 bits that the generator yields."""
    if like.dtype != FLOAT32 or not COMPILED:
        return kernels.standard_normal.generic(like, rng, shape)
    if len(shape) == 2 and math.prod(shape) >= LARGE_MATRIX:
        return draw(rng.bit_generator, shape)
    # With the batch axis last in memory, as compiled layers read it.
    drawn = draw(rng.bit_generator, (*shape[1:], *shape[:1]))
    return numpy.moveaxis(drawn, -1, 0)


@kernels.sparse_vd_penalty.override("numpy")
def sparse_vd_penalty(theta, log_sigma2, threshold, masked, kl, clip, scale):
    """Take float32, compiled or a cache block at a time."""
    if theta.size < SMALLEST or not (_compilable(theta) and _compilable(log_sigma2)):
        return kernels.sparse_vd_penalty.generic(
            theta, log_sigma2, threshold, masked, kl, clip, scale
        )
    by_theta = empty_like(theta)
    by_log_sigma2 = empty_like(theta)
    arrays = [x.reshape(-1) for x in (theta, log_sigma2, by_theta, by_log_sigma2)]
    if not COMPILED:
        options = (threshold, masked, kl, clip, scale)
        value, rate_sum, kept = _penalty_in_blocks(arrays, options)
    else:
        pieces = -(-theta.size // PIECE)
        sums = numpy.empty((pieces, 3))
        limit = elementwise.UNLIMITED if clip is None else clip
        mask_above = threshold if masked else numpy.inf
        kernel = elementwise.PENALTIES[kl]
        numbers = map(numpy.float32, (threshold, mask_above, limit, scale))
        kernel(team(pieces), pieces, *arrays, sums, *numbers)
        value, rate_sum, kept = sums.sum(axis=0).astype(numpy.float32)
    return kernels.Penalty(value, by_theta, by_log_sigma2, rate_sum, kept)


def _penalty_in_blocks(arrays, options):
    theta, log_sigma2, by_theta, by_log_sigma2 = arrays
    sums = numpy.zeros(3)
    for start in range(0, theta.size, BLOCK):
        part = slice(start, start + BLOCK)
        penalty = kernels.sparse_vd_penalty.generic(
            theta[part], log_sigma2[part], *options
        )
        by_theta[part] = penalty.theta_gradient
        by_log_sigma2[part] = penalty.log_sigma2_gradient
        sums += penalty.value, penalty.rate_sum, penalty.kept
    return sums.astype(numpy.float32)


@kernels.vd_linear_forward.override("numpy")
def vd_linear_forward(x, theta, log_sigma2, b, noise, threshold):
    """Take float32; over the kept weights alone once masks have left few."""
    if not _blockable(x, theta, log_sigma2, noise):
        return kernels.vd_linear_forward.generic(
            x, theta, log_sigma2, b, noise, threshold
        )
    kept = _kept_weights(theta, log_sigma2, threshold)
    if kept is not None:
        return masked_linear.forward(kept, x, b, noise)
    if len(x) * theta.size >= large_noisy_linear.LARGE:
        return large_noisy_linear.forward(x, theta, log_sigma2, b, noise, threshold)
    return noisy_linear.forward(x, theta, log_sigma2, b, noise, threshold)


@kernels.vd_linear_backward.override("numpy")
def vd_linear_backward(gy, x, theta, log_sigma2, residual, threshold, need_x):
    """Take float32; over the kept weights alone once masks have left few."""
    if not _blockable(x, theta, log_sigma2, residual) or gy.dtype != FLOAT32:
        return kernels.vd_linear_backward.generic(
            gy, x, theta, log_sigma2, residual, threshold, need_x
        )
    kept = _kept_weights(theta, log_sigma2, threshold)
    if kept is None and len(x) * theta.size >= large_noisy_linear.LARGE:
        return large_noisy_linear.backward(
            gy, x, theta, log_sigma2, residual, threshold, need_x
        )
    gy = feature_major(gy)
    gb = gy.sum(axis=1)
    gvariance = gy * feature_major(residual)
    if kept is None:
        gradients = noisy_linear.backward(
            gy, gvariance, x, theta, log_sigma2, threshold, need_x
        )
    else:
        gradients = masked_linear.backward(kept, gy, gvariance, x, theta.shape, need_x)
    return *gradients, gb


def _blockable(x, theta, log_sigma2, noise):
    """Whether the compiled layers take these arrays, of any order in memory."""
    return (
        COMPILED
        and _compilable(theta)
        and _compilable(log_sigma2)
        and x.dtype == noise.dtype == FLOAT32
        and min(x.shape) >= noisy_linear.MIN_SIZE
        and theta.size > 0
    )


def _kept_weights(theta, log_sigma2, threshold):
    if threshold is None:
        return None
    keep = empty(theta.shape, numpy.bool)
    pieces = -(-theta.size // PIECE)
    elementwise.keep_mask(
        team(pieces),
        pieces,
        theta.reshape(-1),
        log_sigma2.reshape(-1),
        numpy.float32(threshold),
        keep.reshape(-1),
    )
    return kept_weights(theta, log_sigma2, keep)


@kernels.convolution_forward.override("numpy")
def convolution_forward(x, W, b, window, groups):
    """Take float32."""
    if not _convolvable(x, W):
        return kernels.convolution_forward.generic(x, W, b, window, groups)
    return convolution.forward(x, W, b, window, groups)


@kernels.convolution_backward.override("numpy")
def convolution_backward(gy, x, W, window, groups, need_x):
    """Take float32."""
    if not _convolvable(x, W, gy):
        return kernels.convolution_backward.generic(gy, x, W, window, groups, need_x)
    return convolution.backward(gy, x, W, window, groups, need_x)


@kernels.vd_convolution_forward.override("numpy")
def vd_convolution_forward(x, theta, log_sigma2, b, noise, threshold, window, groups):
    """Take float32; over the kept weights alone once masks have left few."""
    arguments = (x, theta, log_sigma2, b, noise, threshold, window, groups)
    if not _convolvable(x, theta, log_sigma2, noise):
        return kernels.vd_convolution_forward.generic(*arguments)
    kept = _kept_weights(_matrix(theta), _matrix(log_sigma2), threshold)
    if kept is not None:
        return masked_convolution.forward(
            kept, x, theta.shape, b, noise, window, groups
        )
    return convolution.noisy_forward(*arguments)


@kernels.vd_convolution_backward.override("numpy")
def vd_convolution_backward(
    gy, x, theta, log_sigma2, residual, threshold, window, groups, need_x
):
    """Take float32; over the kept weights alone once masks have left few."""
    arguments = (gy, x, theta, log_sigma2, residual, threshold, window, groups, need_x)
    if not _convolvable(x, theta, log_sigma2, gy, residual):
        return kernels.vd_convolution_backward.generic(*arguments)
    kept = _kept_weights(_matrix(theta), _matrix(log_sigma2), threshold)
    if kept is not None:
        return masked_convolution.backward(
            kept, gy, x, theta.shape, residual, window, groups, need_x
        )
    return convolution.noisy_backward(*arguments)


def _matrix(weights):
    return weights.reshape(len(weights), -1)


def _convolvable(x, W, *others):
    """Whether the compiled convolutions take these arrays, of any order in memory."""
    return (
        COMPILED
        and all(array.dtype == FLOAT32 for array in (x, W, *others))
        and W.flags.c_contiguous
        and len(x) >= convolution.MIN_BATCH
    )


@kernels.softmax_cross_entropy.override("numpy")
def softmax_cross_entropy(logits, t):
    """Take float32."""
    if not COMPILED or logits.dtype != FLOAT32:
        return kernels.softmax_cross_entropy.generic(logits, t)
    logits = contiguous(logits)
    gradient, losses = empty_like(logits), numpy.empty(len(logits))
    parts = min(len(logits), -(-logits.size // PIECE))
    elementwise.softmax_cross_entropy(team(parts), parts, logits, t, gradient, losses)
    return numpy.float32(losses.mean()), gradient


@kernels.accuracy.override("numpy")
def accuracy(scores, t):
    """Any dtype, row by row."""
    scores = contiguous(scores) if COMPILED else scores
    return kernels.accuracy.generic(scores, t)


@kernels.add_each.override("numpy")
def add_each(first, second):
    """Take large float32 arrays."""
    return [_sum(a, b) for a, b in zip(first, second, strict=True)]


def _sum(a, b):
    if not (COMPILED and a.size >= PIECE and _compilable(a) and _compilable(b)):
        return a + b
    total = empty_like(a)
    pieces = -(-a.size // PIECE)
    elementwise.add(team(pieces), pieces, *(x.reshape(-1) for x in (a, b, total)))
    return total


@kernels.adam.override("numpy")
def adam(parameters, gradients, ms, vs, step, beta1, beta2, eps, finite=None):
    """Any floating dtype, in place."""
    numbers = step, beta1, beta2, eps
    everything = zip(parameters, gradients, ms, vs, strict=True)
    if finite is not None or not all(map(_writable, everything)):
        lists = parameters, gradients, ms, vs
        return kernels.adam.generic(*lists, *numbers, finite)
    for arrays in zip(parameters, gradients, ms, vs, strict=True):
        if COMPILED and all(x.dtype == FLOAT32 for x in arrays):
            pieces = -(-arrays[0].size // PIECE)
            flat = (x.reshape(-1) for x in arrays)
            elementwise.adam(team(pieces), pieces, *flat, *map(FLOAT32.type, numbers))
        else:
            _adam_in_blocks(arrays, *numbers)
    return parameters, ms, vs


def _writable(arrays):
    return all(x.flags.c_contiguous and x.flags.writeable for x in arrays)


def _adam_in_blocks(arrays, step, beta1, beta2, eps):
    parameter, gradient, m, v = (x.reshape(-1) for x in arrays)
    work = numpy.empty(min(BLOCK, parameter.size), parameter.dtype)
    for start in range(0, parameter.size, BLOCK):
        part = slice(start, start + BLOCK)
        p, g, first, second = parameter[part], gradient[part], m[part], v[part]
        w = work[: p.size]
        first *= beta1
        first += numpy.multiply(g, 1 - beta1, out=w)
        second *= beta2
        numpy.multiply(g, g, out=w)
        w *= 1 - beta2
        second += w
        numpy.sqrt(second, out=w)
        w += eps
        numpy.divide(first, w, out=w)
        w *= step
        p -= w
