"""Pytrees of weights that have a posterior: made, drawn from, pruned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdcore.arrays import Array
from vdcore.backends.jax_functions.checks import check_jax_array, check_key
from vdcore.kernels.sampling import sample_weights
from vdcore.variational.checks import check_same_shape, floating_namespace
from vdcore.variational.pruning import THRESHOLD, keep_mask
from vdcore.variational.reparameterization import log_alpha

Tree = Any  # a pytree: dicts, lists, tuples and the like, with arrays at the ends


class Posterior(NamedTuple):
    """Weights ``N(theta, exp(log_sigma2))``; itself a pytree of its two arrays.

    A tree of gradients has Posteriors in the same places: there the two are the
    derivatives by `theta` and by `log_sigma2`.

    Attributes
    ----------
    theta : jax.Array
        Means.
    log_sigma2 : jax.Array, same shape and dtype
        Log variances.
    """

    theta: Array
    log_sigma2: Array


def is_posterior(node: Any) -> bool:
    """Whether a node of a tree is a Posterior: the ``is_leaf`` of JAX's functions."""
    return isinstance(node, Posterior)


def init(
    params: Tree,
    initial_log_sigma2: float = -10.0,
    *,
    variational: Callable[[str, Array], bool] | None = None,
) -> Tree:
    """Give weights a posterior: the same tree with a :class:`Posterior` for each.

    Parameters
    ----------
    params : pytree of jax.Array
        Weights, pretrained or as some initialiser made them; they become the means.
    initial_log_sigma2 : float
        Log variance of all.
    variational : callable, optional
        ``variational(path, array)`` says which arrays get one; `path` is for example
        ``"l1/W"``. Default: those of two axes and more, which are weights; biases and
        scales have one.

    Returns
    -------
    pytree
        Shapes and dtypes of `params`.

    Raises
    ------
    TypeError
        If a leaf is no array of JAX, a chosen one is not of a real floating dtype, or
        there is a Posterior already.
    ValueError
        If no array is chosen, or `initial_log_sigma2` is not finite.
    """
    if not math.isfinite(initial_log_sigma2):
        message = (
            "init: `initial_log_sigma2` must be a finite number, got "
            f"{initial_log_sigma2!r}; -10 is the authors'"
        )
        raise ValueError(message)
    chosen = _has_two_axes if variational is None else variational

    def with_posterior(path: str, leaf: Any) -> Any:
        argument = f"params[{path!r}]"
        if is_posterior(leaf):
            message = (
                f"init: `{argument}` is a Posterior already; give plain weights, for "
                "example those of prune"
            )
            raise TypeError(message)
        check_jax_array("init", argument, leaf)
        if not chosen(path, leaf):
            return leaf
        floating_namespace("init", **{argument: leaf})
        return Posterior(leaf, jnp.full_like(leaf, initial_log_sigma2))

    result = _map_with_path(with_posterior, params)
    posteriors("init", result)
    return result


def posteriors(operation: str, params: Tree) -> dict[str, Posterior]:
    """All posteriors of a tree by their paths, checked.

    Raises
    ------
    ValueError
        If there is none, or the two arrays of one differ in shape.
    TypeError
        If their arrays are not JAX's, of one real floating dtype.
    """
    found = {path: leaf for path, leaf in leaves(params) if is_posterior(leaf)}
    if not found:
        message = (
            f"{operation}: there is no Posterior in `params`; make them by init, whose "
            "`variational` says of which arrays"
        )
        raise ValueError(message)
    for path, posterior in found.items():
        check_posterior(operation, posterior, f"{path}/".lstrip("/"))
    return found


def check_posterior(operation: str, posterior: Posterior, prefix: str = "") -> None:
    """Raise as :func:`posteriors`, for one."""
    arrays = {f"{prefix}{name}": array for name, array in posterior._asdict().items()}
    for argument, array in arrays.items():
        check_jax_array(operation, argument, array)
    floating_namespace(operation, **arrays)
    check_same_shape(operation, **arrays)


def leaves(params: Tree) -> list[tuple[str, Any]]:
    """Pairs of path and leaf, a Posterior being one leaf."""
    paths, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=is_posterior)
    return [(_as_text(path), leaf) for path, leaf in paths]


def sample(params: Tree, key: Array) -> Tree:
    """One draw of all weights: ``theta + exp(log_sigma2 / 2) * noise``.

    Parameters
    ----------
    params : pytree
        As of :func:`init`.
    key : jax.Array
        A key of JAX's random numbers; each Posterior gets a part of it.

    Returns
    -------
    pytree of jax.Array
        Differentiable by both arrays of each Posterior; other leaves as they are.

    Raises
    ------
    ValueError, TypeError
        If there is no Posterior, one is not right, or `key` is not one key.
    """
    check_key("sample", key)
    keys = iter(jax.random.split(key, len(posteriors("sample", params))))

    def draw(posterior: Posterior) -> Array:
        theta = posterior.theta
        noise = jax.random.normal(next(keys), theta.shape, theta.dtype)
        return sample_weights(*posterior, noise, None)

    return _map_posteriors(draw, params)


def prune(params: Tree, threshold: float = THRESHOLD) -> Tree:
    """The weights to predict with: means, and 0 where log alpha is above a threshold.

    Parameters
    ----------
    params : pytree
        As of :func:`init`.
    threshold : float
        On log alpha; infinity keeps all.

    Returns
    -------
    pytree of jax.Array
        As the tree that :func:`init` was given; other leaves as they are.

    Raises
    ------
    ValueError, TypeError
        If there is no Posterior, or one is not right.
    """
    posteriors("prune", params)
    return _map_posteriors(lambda posterior: masked(posterior, threshold), params)


def masked(posterior: Posterior, threshold: float) -> Array:
    """Means; 0 where log alpha is above a threshold."""
    keep = keep_mask(log_alpha(*posterior), threshold)
    return jnp.where(keep, posterior.theta, jnp.zeros_like(posterior.theta))


def apply(
    function: Callable[..., Any],
    params: Tree,
    *args: Any,
    key: Array | None = None,
    threshold: float = THRESHOLD,
) -> Any:
    """Call a model on weights of the posterior: a draw in training, else the pruned.

    Works for any model that is a function of its weights. All examples of a batch share
    the draw; where a weight is used in a product, :func:`linear` and the like give each
    example noise of its own, and gradients of smaller variance.

    Parameters
    ----------
    function : callable
        ``function(weights, *args)``, with plain weights.
    params : pytree
        As of :func:`init`.
    *args
        The model's other arguments.
    key : jax.Array, optional
        As of :func:`sample`; None, the default, is evaluation: :func:`prune`.
    threshold : float
        Of evaluation.
    """
    weights = prune(params, threshold) if key is None else sample(params, key)
    return function(weights, *args)


def _has_two_axes(path: str, leaf: Array) -> bool:
    return leaf.ndim >= 2


def _map_posteriors(function: Callable[[Posterior], Any], params: Tree) -> Tree:
    def of_leaf(leaf: Any) -> Any:
        return function(leaf) if is_posterior(leaf) else leaf

    return jax.tree.map(of_leaf, params, is_leaf=is_posterior)


def _map_with_path(function: Callable[[str, Any], Any], params: Tree) -> Tree:
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(_as_text(path), leaf), params, is_leaf=is_posterior
    )


def _as_text(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
