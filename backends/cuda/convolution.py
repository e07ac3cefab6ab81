"""Convolutions, plain and noisy, of images with their channels last."""

from __future__ import annotations

from typing import Any

import cupy

from vdcore.backends.cuda import engine
from vdcore.backends.cuda.layout import channels_first, channels_last
from vdcore.backends.cuda.noisy import Weights, gradients, operands, outputs
from vdcore.windows import Window


def forward(
    x: cupy.ndarray,
    W: cupy.ndarray,
    b: cupy.ndarray | None,
    window: Window,
    groups: int,
) -> cupy.ndarray:
    """As ``kernels.convolution_forward``."""
    return channels_first(_outputs(x, Weights(W), b, None, window, groups))


def noisy_forward(
    x: cupy.ndarray,
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    b: cupy.ndarray | None,
    noise: cupy.ndarray,
    threshold: float | None,
    window: Window,
    groups: int,
) -> tuple[cupy.ndarray, cupy.ndarray]:
    """As ``kernels.vd_convolution_forward``; `noise` may become the residual."""
    noise = channels_last(noise)
    weights = Weights(theta, log_sigma2, threshold)
    y = _outputs(x, weights, b, noise, window, groups)
    return channels_first(y), channels_first(noise)


def backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    W: cupy.ndarray,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[cupy.ndarray | None, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.convolution_backward``."""
    gx, gW, _, gb = _gradients(gy, x, Weights(W), None, window, groups, need_x)
    return gx, gW, gb


def noisy_backward(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    theta: cupy.ndarray,
    log_sigma2: cupy.ndarray,
    residual: cupy.ndarray,
    threshold: float | None,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[cupy.ndarray | None, cupy.ndarray, cupy.ndarray, cupy.ndarray]:
    """As ``kernels.vd_convolution_backward``."""
    weights = Weights(theta, log_sigma2, threshold)
    return _gradients(gy, x, weights, residual, window, groups, need_x)


def _outputs(
    x: cupy.ndarray,
    weights: Weights,
    b: cupy.ndarray | None,
    noise: cupy.ndarray | None,
    window: Window,
    groups: int,
) -> cupy.ndarray:
    made = operands(weights=weights)
    products = engine.products(channels_last(x), made.weights, window, groups)
    return outputs(products, noise, b)


def _gradients(
    gy: cupy.ndarray,
    x: cupy.ndarray,
    weights: Weights,
    residual: cupy.ndarray | None,
    window: Window,
    groups: int,
    need_x: bool,
) -> tuple[Any, Any, Any, Any]:
    gy, x = channels_last(gy), channels_last(x)
    matrices = [
        None if array is None else array.reshape(-1, gy.shape[-1])
        for array in (gy, None if residual is None else channels_last(residual))
    ]
    made = operands(None, weights if need_x else None, *matrices)
    slopes = made.slopes.reshape(-1, *gy.shape)
    products = engine.weight_products(x, slopes, weights.shape, window, groups)
    gx = None
    if need_x:
        gx = engine.input_gradient(x, slopes, made.weights, window, groups)
        gx = channels_first(gx)
    return gx, *gradients(made.sums, products, weights)[1:]
