"""Linear layers; noisy ones with one launch before their products, one after them."""

from __future__ import annotations

import cupy

from vdcore.backends.cuda.noisy import Weights, gradients, operands, outputs
from vdcore.backends.cuda.products import multiply


def plain_forward(
    x: cupy.ndarray, W: cupy.ndarray, b: cupy.ndarray | None
) -> cupy.ndarray:
    """As ``kernels.linear_forward``."""
    x = cupy.ascontiguousarray(x)
    return outputs(multiply(x[None], W[None].transpose(0, 2, 1)), None, b)


def plain_backward(
    gy: cupy.ndarray, x: cupy.ndarray, W: cupy.ndarray, need_x: bool
) -> tuple[cupy.ndarray | None, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.linear_backward``."""
    gy, x = map(cupy.ascontiguousarray, (gy, x))
    sums = operands(gy=gy).sums
    products = multiply(gy[None].transpose(0, 2, 1), x[None])
    _, gW, _, gb = gradients(sums, products[:, None], Weights(W))
    return multiply(gy[None], W[None])[0] if need_x else None, gW, gb


def forward(
    x: cupy.ndarray,
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    b: cupy.ndarray | None,
    noise: cupy.ndarray,
    threshold: float | None,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.vd_linear_forward``; `noise` becomes the residual."""
    x, noise = map(cupy.ascontiguousarray, (x, noise))
    made = operands(x, Weights(theta, log_sigma2, threshold))
    products = multiply(made.inputs, made.weights.transpose(0, 2, 1))
    return outputs(products, noise, b), noise


def backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    residual: cupy.ndarray,
    threshold: float | None,
    need_x: bool,
) -> tuple[cupy.ndarray | None, cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.vd_linear_backward``."""
    gy, x, residual = map(cupy.ascontiguousarray, (gy, x, residual))
    weights = Weights(theta, log_sigma2, threshold)
    made = operands(x, weights if need_x else None, gy, residual)
    products = multiply(made.slopes.transpose(0, 2, 1), made.inputs)
    by_inputs = (x, multiply(made.slopes, made.weights)) if need_x else (None, None)
    return gradients(made.sums, products[:, None], weights, *by_inputs)
