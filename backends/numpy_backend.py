"""Hot operations on NumPy arrays: compiled by numba, or NumPy a cache block at a time.

Compiled kernels take contiguous float32 arrays; everything else goes to the generic
definition. Large arrays are split between threads in pieces that do not depend on the
number of threads, so neither do results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy

from vdcore import kernels
from vdcore.backends import elementwise, masked_linear
from vdcore.backends.elementwise import PIECE
from vdcore.backends.jit import numba_or_none
from vdcore.backends.masked_linear import kept_weights
from vdcore.backends.threads import in_parallel, thread_count

# Elements below which arrays may lie so close together in memory that compiled code,
# which must allow for overlaps, sums them in another order.
TINY = 256
# To wake a thread takes up to 0.3 ms, as long as the KL of 100,000 weights does.
PARALLEL_FROM = 256 * PIECE
BLOCK = 8192  # elements of float32 that stay in the first-level cache, six arrays of it


def description() -> str:
    """Which path the hot operations take, in words for a report."""
    numba = numba_or_none()
    path = "NumPy, cache-blocked" if numba is None else f"numba {numba.__version__}"
    return f"{path}, {thread_count()} threads"


def _in_pieces(size: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` on ranges of pieces that cover `size` elements."""
    pieces = -(-size // PIECE)
    threads = min(thread_count(), pieces) if size >= PARALLEL_FROM else 1
    in_parallel(work, [pieces * part // threads for part in range(threads + 1)])


def _compilable(arrays: Sequence[numpy.ndarray]) -> bool:
    return numba_or_none() is not None and all(
        x.dtype == numpy.float32 and x.flags.c_contiguous for x in arrays
    )


@kernels.standard_normal.override("numpy")
def standard_normal(like, rng, shape):
    """Take float32 by Box and Muller, from the raw bits of the generator."""
    bits = rng.bit_generator
    has_32_bit_words = isinstance(bits, numpy.random.MT19937)
    if like.dtype != numpy.float32 or has_32_bit_words or numba_or_none() is None:
        return kernels.standard_normal.generic(like, rng, shape)
    noise = numpy.empty(shape, numpy.float32)
    # 64 random bits make a pair; the last of an odd number is cut off.
    words = bits.random_raw(-(-noise.size // 2))
    elementwise.box_muller(words, noise.reshape(-1))
    return noise


@kernels.sparse_vd_penalty.override("numpy")
def sparse_vd_penalty(theta, log_sigma2, threshold, masked, kl, clip, scale):
    """Take float32, compiled or a cache block at a time."""
    if theta.size < TINY or not (
        theta.dtype == log_sigma2.dtype == numpy.float32
        and theta.flags.c_contiguous
        and log_sigma2.flags.c_contiguous
    ):
        return kernels.sparse_vd_penalty.generic(
            theta, log_sigma2, threshold, masked, kl, clip, scale
        )
    size = theta.size
    by_theta = numpy.empty_like(theta)
    by_log_sigma2 = numpy.empty_like(theta)
    sums = numpy.zeros((-(-size // PIECE), 3))
    arguments = (
        theta.reshape(-1),
        log_sigma2.reshape(-1),
        by_theta.reshape(-1),
        by_log_sigma2.reshape(-1),
        sums,
    )
    limit = numpy.float32(elementwise.UNLIMITED if clip is None else clip)
    mask_above = numpy.float32(threshold if masked else numpy.inf)
    threshold, scale = numpy.float32(threshold), numpy.float32(scale)
    exact = kl == "exact"
    if numba_or_none() is None:
        generic = kernels.sparse_vd_penalty.generic
        for start in range(0, size, BLOCK):
            part = slice(start, start + BLOCK)
            penalty = generic(
                arguments[0][part],
                arguments[1][part],
                threshold,
                masked,
                kl,
                clip,
                scale,
            )
            arguments[2][part] = penalty.theta_gradient
            arguments[3][part] = penalty.log_sigma2_gradient
            sums[0] += penalty.value, penalty.rate_sum, penalty.kept
    else:
        kernel = elementwise.exact_penalty if exact else elementwise.molchanov_penalty
        _in_pieces(
            size,
            lambda first, last: kernel(
                *arguments, threshold, mask_above, limit, scale, first, last
            ),
        )
    value, rate_sum, kept = sums.sum(axis=0).astype(numpy.float32)
    return kernels.Penalty(value, by_theta, by_log_sigma2, rate_sum, kept)


@kernels.vd_linear_forward.override("numpy")
def vd_linear_forward(x, theta, log_sigma2, b, noise, threshold):
    """Take float32; over the kept weights alone once masks have left few."""
    if not _compilable([x, theta, log_sigma2, noise]):
        return kernels.vd_linear_forward.generic(
            x, theta, log_sigma2, b, noise, threshold
        )
    keep = _keep_mask(theta, log_sigma2, threshold)
    kept = None if keep is None else kept_weights(theta, log_sigma2, keep)
    if kept is not None:
        return masked_linear.forward(kept, x, b, noise), noise
    theta, sigma2 = _masked_posterior(theta, log_sigma2, keep)
    y = x @ theta.T
    variance = numpy.square(x) @ sigma2.T
    if b is None:
        b = numpy.zeros(y.shape[1], y.dtype)
    elementwise.add_noise(y, variance, noise, b)
    return y, noise


@kernels.vd_linear_backward.override("numpy")
def vd_linear_backward(gy, x, theta, log_sigma2, residual, threshold, need_x):
    """Take float32; over the kept weights alone once masks have left few."""
    if not _compilable([gy, x, theta, log_sigma2, residual]):
        return kernels.vd_linear_backward.generic(
            gy, x, theta, log_sigma2, residual, threshold, need_x
        )
    gvariance = gy * residual
    gb = gy.sum(axis=0)
    keep = _keep_mask(theta, log_sigma2, threshold)
    kept = None if keep is None else kept_weights(theta, log_sigma2, keep)
    if kept is not None:
        shape = theta.shape
        return *masked_linear.backward(kept, gy, gvariance, x, shape, need_x), gb
    gtheta = gy.T @ x
    glog_sigma2 = gvariance.T @ numpy.square(x)
    elementwise.scale_by_exp(glog_sigma2.reshape(-1), log_sigma2.reshape(-1))
    if keep is not None:
        gtheta *= keep
        glog_sigma2 *= keep
    gx = None
    if need_x:
        theta, sigma2 = _masked_posterior(theta, log_sigma2, keep)
        gx = gvariance @ sigma2
        gx *= x
        gx *= 2
        gx += gy @ theta
    return gx, gtheta, glog_sigma2, gb


def _keep_mask(theta, log_sigma2, threshold):
    if threshold is None:
        return None
    keep = numpy.empty(theta.shape, numpy.bool)
    arguments = (theta.reshape(-1), log_sigma2.reshape(-1), numpy.float32(threshold))
    result = keep.reshape(-1)
    _in_pieces(
        theta.size,
        lambda first, last: elementwise.keep_mask(*arguments, result, first, last),
    )
    return keep


def _masked_posterior(theta, log_sigma2, keep):
    sigma2 = numpy.exp(log_sigma2)
    return (theta, sigma2) if keep is None else (theta * keep, sigma2 * keep)


@kernels.softmax_cross_entropy.override("numpy")
def softmax_cross_entropy(logits, t):
    """Take float32."""
    if not _compilable([logits]):
        return kernels.softmax_cross_entropy.generic(logits, t)
    gradient = numpy.empty_like(logits)
    loss = elementwise.softmax_cross_entropy(logits, t, gradient)
    return numpy.float32(loss), gradient


@kernels.adam.override("numpy")
def adam(parameter, gradient, m, v, step, beta1, beta2, eps):
    """Any floating dtype, in place."""
    arrays = [parameter, gradient, m, v]
    in_place = all(x.flags.c_contiguous for x in arrays) and all(
        x.flags.writeable for x in (parameter, m, v)
    )
    if not in_place:
        return kernels.adam.generic(parameter, gradient, m, v, step, beta1, beta2, eps)
    if not _compilable(arrays):
        _adam_in_blocks(arrays, step, beta1, beta2, eps)
        return parameter, m, v
    flat = tuple(x.reshape(-1) for x in arrays)
    numbers = tuple(numpy.float32(x) for x in (step, beta1, beta2, eps))
    _in_pieces(
        parameter.size,
        lambda first, last: elementwise.adam(*flat, *numbers, first, last),
    )
    return parameter, m, v


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
