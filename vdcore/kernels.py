"""The hot operations: each with a generic definition that a backend may override.

The generic body is plain array-API code. It is the specification, the test oracle and
what runs where a backend has nothing faster for the array type, dtype or layout. A
backend (``vdcore.backends.<library>_backend``) is imported when the first array of
its library reaches a kernel.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Generic, NamedTuple, ParamSpec, TypeVar

import numpy

from vdcore.arrays import Array, array_namespace, asarray_like, library_name
from vdcore.variational.kl import (
    kl_sparse_vd,
    kl_sparse_vd_exact,
    kl_sparse_vd_exact_grad,
    kl_sparse_vd_grad,
)
from vdcore.variational.pruning import dropout_rate, keep_mask
from vdcore.variational.reparameterization import log_alpha, log_alpha_grad

P = ParamSpec("P")
R = TypeVar("R")

KL = {
    "molchanov": (kl_sparse_vd, kl_sparse_vd_grad),
    "exact": (kl_sparse_vd_exact, kl_sparse_vd_exact_grad),
}


class Kernel(Generic[P, R]):
    """A function chosen by the library of its first argument.

    Attributes
    ----------
    generic : callable
        The array-API definition.
    """

    def __init__(self, generic: Callable[P, R]) -> None:
        functools.update_wrapper(self, generic)
        self.generic = generic
        self._overrides: dict[str, Callable[P, R]] = {}
        self._chosen: dict[type, Callable[P, R]] = {}

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the implementation for the class of the first argument."""
        cls = type(args[0])
        implementation = self._chosen.get(cls)
        if implementation is None:
            implementation = self._choose(cls)
        return implementation(*args, **kwargs)

    def override(self, library: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Register an implementation for a library's arrays (a decorator).

        It takes the same arguments; where it has nothing faster for them it returns
        ``kernel.generic(...)``.
        """

        def register(implementation: Callable[P, R]) -> Callable[P, R]:
            self._overrides[library] = implementation
            self._chosen.clear()
            return implementation

        return register

    def _choose(self, cls: type) -> Callable[P, R]:
        library = library_name(cls)
        _load_backend(library)
        self._chosen[cls] = self._overrides.get(library, self.generic)
        return self._chosen[cls]


@functools.cache
def _load_backend(library: str) -> None:
    name = f"vdcore.backends.{library}_backend"
    if library in ("numpy", "cupy") and importlib.util.find_spec(name):
        importlib.import_module(name)


class Penalty(NamedTuple):
    """What one pass over a layer's weights yields; see :func:`sparse_vd_penalty`."""

    value: Array
    theta_gradient: Array
    log_sigma2_gradient: Array
    rate_sum: Array
    kept: Array


@Kernel
def standard_normal(
    like: Array, rng: numpy.random.Generator, shape: tuple[int, ...]
) -> Array:
    """Standard normal draws of the library, device and dtype of `like`.

    A backend may draw other numbers from the same generator.
    """
    xp = array_namespace(like)
    drawn = numpy.float64 if like.dtype == xp.float64 else numpy.float32
    noise = asarray_like(rng.standard_normal(shape, dtype=drawn), like)
    return noise if noise.dtype == like.dtype else xp.astype(noise, like.dtype)


@Kernel
def sparse_vd_penalty(
    theta: Array,
    log_sigma2: Array,
    threshold: float,
    masked: bool,
    kl: str,
    clip: float | None,
    scale: float,
) -> Penalty:
    """KL of all weights of a layer with its gradients and statistics, in one pass.

    Parameters
    ----------
    theta, log_sigma2 : array, same shape
    threshold : float
        Weights with log alpha above it do not count as kept.
    masked : bool
        Whether those weights are left out of the KL (masks in training).
    kl : {"molchanov", "exact"}
    clip : float or None
        Log alpha is limited to ``[-clip, clip]``; no gradient outside.
    scale : float
        Multiplies the gradients.

    Returns
    -------
    Penalty
        value: the summed KL in nats, unscaled; the gradients of ``scale * value`` by
        theta and log_sigma2; the sum of the dropout rates; the number of weights
        kept. The three sums are 0-d arrays of the dtype of `theta`.
    """
    xp = array_namespace(theta, log_sigma2)
    divergence, slope = KL[kl]
    raw = log_alpha(theta, log_sigma2)
    la = raw if clip is None else xp.clip(raw, -clip, clip)
    keep = keep_mask(raw, threshold)
    counted = xp.ones_like(keep) if not masked else keep
    sloped = counted if clip is None else counted & (xp.abs(raw) < clip)
    zero = xp.zeros_like(la)
    by_log_sigma2 = xp.where(sloped, slope(la) * scale, zero)
    return Penalty(
        xp.sum(xp.where(counted, divergence(la), zero)),
        by_log_sigma2 * log_alpha_grad(theta),
        by_log_sigma2,
        xp.sum(dropout_rate(la)),
        xp.sum(xp.astype(keep, theta.dtype)),
    )


@Kernel
def vd_linear_forward(
    x: Array,
    theta: Array,
    log_sigma2: Array,
    b: Array | None,
    noise: Array,
    threshold: float | None,
) -> tuple[Array, Array]:
    """Noisy linear layer by local reparameterisation.

    Parameters
    ----------
    x : array, shape (batch, in_size)
    theta, log_sigma2 : array, shape (out_size, in_size)
    b : array, shape (out_size,), or None
    noise : array, shape (batch, out_size)
        Standard normal draws. A backend may reuse its memory.
    threshold : float or None
        Weights with log alpha above it have mean and variance 0; None masks none.

    Returns
    -------
    y : array, shape (batch, out_size)
        ``x theta^T + sqrt(x^2 sigma2^T + 1e-8) * noise + b``
    residual : array, shape (batch, out_size)
        ``noise / (2 std)``: all that the backward pass needs besides the arguments.
    """
    theta, sigma2 = _masked_posterior(theta, log_sigma2, threshold)
    xp = array_namespace(x, theta)
    std = xp.sqrt(xp.matmul(xp.square(x), xp.matrix_transpose(sigma2)) + 1e-8)
    y = xp.matmul(x, xp.matrix_transpose(theta)) + std * noise
    return (y if b is None else y + b), noise / std * 0.5


@Kernel
def vd_linear_backward(
    gy: Array,
    x: Array,
    theta: Array,
    log_sigma2: Array,
    residual: Array,
    threshold: float | None,
    need_x: bool,
) -> tuple[Array | None, Array, Array, Array]:
    """Gradients of :func:`vd_linear_forward`.

    Weights are masked again rather than kept: only `residual` lives between the two.

    Returns
    -------
    gx : array, shape (batch, in_size), or None
        None unless `need_x`.
    gtheta, glog_sigma2 : array, shape (out_size, in_size)
    gb : array, shape (out_size,)
    """
    xp = array_namespace(gy, x, theta)
    keep = None
    if threshold is not None:
        keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    theta, sigma2 = _masked_posterior(theta, log_sigma2, threshold)
    gvariance = gy * residual
    gtheta = xp.matmul(xp.matrix_transpose(gy), x)
    if keep is not None:
        gtheta = xp.where(keep, gtheta, xp.zeros_like(gtheta))
    gsigma2 = xp.matmul(xp.matrix_transpose(gvariance), xp.square(x))
    gx = None
    if need_x:
        gx = xp.matmul(gy, theta) + x * xp.matmul(gvariance, sigma2) * 2
    return gx, gtheta, gsigma2 * sigma2, xp.sum(gy, axis=0)


def _masked_posterior(
    theta: Array, log_sigma2: Array, threshold: float | None
) -> tuple[Array, Array]:
    xp = array_namespace(theta, log_sigma2)
    sigma2 = xp.exp(log_sigma2)
    if threshold is None:
        return theta, sigma2
    keep = keep_mask(log_alpha(theta, log_sigma2), threshold)
    zero = xp.zeros_like(theta)
    return xp.where(keep, theta, zero), xp.where(keep, sigma2, zero)


@Kernel
def softmax_cross_entropy(logits: Array, t: Array) -> tuple[Array, Array]:
    """Mean negative log-likelihood of classes under a softmax, and its gradient.

    Parameters
    ----------
    logits : array, shape (batch, classes)
    t : array of integers, shape (batch,)
        Class indices, valid ones.

    Returns
    -------
    loss : array, shape ()
        Nats per example.
    gradient : array, shape (batch, classes)
        ``(softmax(logits) - onehot(t)) / batch``.
    """
    xp = array_namespace(logits, t)
    batch, classes = logits.shape
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    total = xp.sum(exponentials, axis=1, keepdims=True)
    numbers = xp.arange(classes)
    onehot = xp.expand_dims(xp.astype(t, numbers.dtype), axis=1) == numbers
    onehot = xp.astype(onehot, logits.dtype)
    log_likelihood = xp.sum(shifted * onehot, axis=1) - xp.log(total[:, 0])
    return -xp.mean(log_likelihood), (exponentials / total - onehot) / batch


@Kernel
def adam(
    parameter: Array,
    gradient: Array,
    m: Array,
    v: Array,
    step: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """One Adam update; returns the new parameter and moments.

    ``parameter - step * m / (sqrt(v) + eps)`` with the bias-corrected `step`. A backend
    may write the results into the memory of `parameter`, `m` and `v`.
    """
    xp = array_namespace(parameter, gradient)
    m = m * beta1 + gradient * (1 - beta1)
    v = v * beta2 + gradient * gradient * (1 - beta2)
    return parameter - m / (xp.sqrt(v) + eps) * step, m, v
