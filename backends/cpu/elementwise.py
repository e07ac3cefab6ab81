"""Compiled float32 loops over weights: KL, masks, loss, Adam.

Logarithm and exponential are polynomials, because the compiler turns loops over them
into vector code, which it cannot do with calls of the C library. For the same reason
loops run from 0 over slices: an index that might be negative stops vectorisation. So
does a choice between two KL terms within a loop (20 times slower): each has its own.
"""

from __future__ import annotations

import math

import numpy

from vdcore.backends.cpu.jit import jit
from vdcore.backends.cpu.team import parallel_for
from vdcore.backends.cpu.vector_math import exp, log
from vdcore.variational.kl import EXACT_COEFFICIENTS, EXACT_SCALE, K1, K2, K3

f = numpy.float32

PIECE = 4096  # elements summed in float32 before the sums are added in float64
UNLIMITED = 80.0  # exp of it is finite in float32
UNMASKED = f(numpy.inf)  # a threshold that no weight exceeds
EPS = f(1e-8)
SMALLEST = f(1e-30)  # moments of masked weights die off: below, arithmetic slows down
ONE, HALF = f(1), f(0.5)
K1_32, K2_32, K3_32, SLOPE = f(K1), f(K2), f(K3), f(K1 * K3)
SCALE = f(EXACT_SCALE)
COEFFICIENTS = numpy.asarray(EXACT_COEFFICIENTS[::-1], numpy.float32)


@jit()
def molchanov_penalty(
    board, parts, theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold,
    mask_above, limit, scale,
):  # fmt: skip
    """KL of equation 14 with gradients and statistics."""
    arguments = (
        theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold, mask_above, limit,
        scale,
    )  # fmt: skip
    parallel_for(board, parts, _molchanov_penalty, arguments)


@jit()
def _molchanov_penalty(
    theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold, mask_above, limit,
    scale, piece,
):  # fmt: skip
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    weights, log_variances = theta[part], log_sigma2[part]
    weight_slopes, log_variance_slopes = by_theta[part], by_log_sigma2[part]
    value, rate_sum, kept = f(0), f(0), f(0)
    for j in range(weights.size):
        w = weights[j]
        w2 = w * w + EPS
        raw = log_variances[j] - log(w2)
        la = -limit if raw < -limit else raw  # selects: NaN stays
        la = limit if la > limit else la
        inverse_alpha = exp(-la)
        growth = exp(K2_32 + K3_32 * la)
        rate = ONE / (ONE + inverse_alpha)
        tail = ONE / (ONE + growth)
        # Products, not 1 - rate and 1 - tail, which would cancel.
        slope = -HALF * inverse_alpha * rate - SLOPE * (growth * tail) * tail
        counted = f(0) if raw > mask_above else ONE
        sloped = counted if abs(raw) < limit else f(0)
        value += counted * (HALF * log(ONE + inverse_alpha) + K1_32 * tail)
        rate_sum += rate
        kept += f(0) if raw > threshold else ONE
        g = slope * sloped * scale
        log_variance_slopes[j] = g
        weight_slopes[j] = g * f(-2) * w / w2
    sums[piece, 0] = value
    sums[piece, 1] = rate_sum
    sums[piece, 2] = kept


@jit()
def exact_penalty(
    board, parts, theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold,
    mask_above, limit, scale,
):  # fmt: skip
    """The true KL with gradients and statistics."""
    arguments = (
        theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold, mask_above, limit,
        scale,
    )  # fmt: skip
    parallel_for(board, parts, _exact_penalty, arguments)


@jit()
def _exact_penalty(
    theta, log_sigma2, by_theta, by_log_sigma2, sums, threshold, mask_above, limit,
    scale, piece,
):  # fmt: skip
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    weights, log_variances = theta[part], log_sigma2[part]
    weight_slopes, log_variance_slopes = by_theta[part], by_log_sigma2[part]
    value, rate_sum, kept = f(0), f(0), f(0)
    for j in range(weights.size):
        w = weights[j]
        w2 = w * w + EPS
        raw = log_variances[j] - log(w2)
        la = -limit if raw < -limit else raw  # selects: NaN stays
        la = limit if la > limit else la
        inverse_alpha = exp(-la)
        rate = ONE / (ONE + inverse_alpha)
        complement = SCALE / (inverse_alpha + SCALE)
        s = inverse_alpha / (inverse_alpha + SCALE)
        u = s + s - ONE
        p = COEFFICIENTS[0]
        dp = f(0)
        for k in range(1, COEFFICIENTS.size):
            dp = dp * u + p
            p = p * u + COEFFICIENTS[k]
        slope = -HALF * inverse_alpha * rate
        slope -= f(2) * s * s * complement * (p + dp * s)
        counted = f(0) if raw > mask_above else ONE
        sloped = counted if abs(raw) < limit else f(0)
        value += counted * (HALF * log(ONE + inverse_alpha) + s * s * p)
        rate_sum += rate
        kept += f(0) if raw > threshold else ONE
        g = slope * sloped * scale
        log_variance_slopes[j] = g
        weight_slopes[j] = g * f(-2) * w / w2
    sums[piece, 0] = value
    sums[piece, 1] = rate_sum
    sums[piece, 2] = kept


@jit()
def keep_mask(board, parts, theta, log_sigma2, threshold, keep):
    """Whether log alpha is not above the threshold."""
    parallel_for(board, parts, _keep_mask, (theta, log_sigma2, threshold, keep))


@jit()
def _keep_mask(theta, log_sigma2, threshold, keep, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    theta, log_sigma2, keep = theta[part], log_sigma2[part], keep[part]
    for j in range(theta.size):
        la = log_sigma2[j] - log(theta[j] * theta[j] + EPS)
        keep[j] = not la > threshold


@jit()
def softmax_cross_entropy(board, parts, logits, t, gradient, losses):
    """Loss of each row; the gradient of their mean. Labels are valid."""
    parallel_for(board, parts, _softmax_rows, (parts, logits, t, gradient, losses))


@jit()
def _softmax_rows(parts, logits, t, gradient, losses, part):
    batch, classes = logits.shape
    share = ONE / f(batch)
    for row in range(part * batch // parts, (part + 1) * batch // parts):
        scores, slopes = logits[row], gradient[row]
        top = scores[0]
        for k in range(1, classes):
            top = max(top, scores[k])
        total = f(0)
        for k in range(classes):
            e = exp(scores[k] - top)
            slopes[k] = e
            total += e
        factor = share / total
        for k in range(classes):
            slopes[k] *= factor
        slopes[t[row]] -= share
        losses[row] = math.log(total) - (scores[t[row]] - top)


@jit()
def adam(board, parts, parameter, gradient, m, v, step, beta1, beta2, eps):
    """``parameter -= step * m / (sqrt(v) + eps)`` with updated moments."""
    arguments = (parameter, gradient, m, v, step, beta1, beta2, eps)
    parallel_for(board, parts, _adam, arguments)


@jit()
def _adam(parameter, gradient, m, v, step, beta1, beta2, eps, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    parameter, gradient, m, v = parameter[part], gradient[part], m[part], v[part]
    for j in range(parameter.size):
        g = gradient[j]
        new_m = beta1 * m[j] + (ONE - beta1) * g
        new_v = beta2 * v[j] + (ONE - beta2) * g * g
        m[j] = new_m if abs(new_m) > SMALLEST else f(0)
        v[j] = new_v if new_v > SMALLEST else f(0)
        parameter[j] -= step * new_m / (math.sqrt(new_v) + eps)


@jit()
def add(board, parts, first, second, total):
    """``first + second``."""
    parallel_for(board, parts, _add, (first, second, total))


@jit()
def _add(first, second, total, piece):
    part = slice(piece * PIECE, (piece + 1) * PIECE)
    first, second, total = first[part], second[part], total[part]
    for j in range(first.size):
        total[j] = first[j] + second[j]


PENALTIES = {"molchanov": molchanov_penalty, "exact": exact_penalty}
