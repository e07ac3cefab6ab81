"""How much of a model is noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vdcore import kernels, variational
from vdcore.arrays import Array
from vdcore.kernels import Penalty, TotalPenalty
from vdcore.link import Link
from vdcore.links.variational_link import VariationalLink


def get_vd_links(link: Link) -> Iterator[VariationalLink]:
    """Yield the variational layers of a model, nested ones too, each once."""
    return (each for each in link.links() if isinstance(each, VariationalLink))


def calculate_p(link: VariationalLink) -> Array:
    """Dropout rate ``alpha / (1 + alpha)`` of every weight of a layer, shape of `W`."""
    return variational.dropout_rate(link.log_alpha())


def calculate_stats(chain: Link, threshold: float | None = None) -> dict[str, float]:
    """Mean dropout rate, sparsity and compression of a model.

    Parameters
    ----------
    chain : Link
        A model with variational layers.
    threshold : float, optional
        Weights with log alpha above it count as noise. Default each layer's own
        threshold, by which it prunes. (The Chainer original's is a dropout rate p;
        that is ``log(p / (1 - p))`` here, 2.944 for .95.)

    Returns
    -------
    dict
        ``mean_p``: mean dropout rate, a fraction; ``sparsity``: fraction of weights
        that are noise; ``W/Wnz``: weights over those kept, infinite if none is.

    Raises
    ------
    ValueError
        If there is no variational layer.
    """
    links = [each for each in get_vd_links(chain) if each.is_weighted]
    for each in links:
        each.check_shape_is_known("calculate_stats")
    penalties = [each.untraced_penalty(0.0, threshold) for each in links]
    if not penalties:
        message = (
            f"calculate_stats: `chain` must have variational layers, got a "
            f"{type(chain).__name__} without; call to_variational_dropout first"
        )
        raise ValueError(message)
    ones = [1.0] * len(penalties)
    total = total_penalty(penalties, ones, ones, len(penalties))
    return {name: float(value) for name, value in named(total).items()}


def named(total: TotalPenalty) -> dict[str, Array]:
    """The statistics of :func:`calculate_stats`, by their names."""
    return {
        "mean_p": total.mean_rate,
        "sparsity": total.sparsity,
        "W/Wnz": total.compression,
    }


def total_penalty(
    penalties: Sequence[Penalty],
    scales: list[float],
    factors: list[Any],
    weighted: int,
) -> TotalPenalty:
    """Sums over the layers of a model; see :func:`vdcore.kernels.total_penalty`.

    The first `weighted` of them have weights, which the statistics count.
    """
    counted = penalties[:weighted]
    return kernels.total_penalty(
        [each.value for each in penalties],
        [each.rate_sum for each in counted],
        [each.kept for each in counted],
        scales,
        factors,
        sum(each.theta_gradient.size for each in counted),
    )
