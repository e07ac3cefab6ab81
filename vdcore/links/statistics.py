"""How much of a model is noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vdcore import functions as F
from vdcore import variational
from vdcore.arrays import Array, array_namespace
from vdcore.kernels import Penalty
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
    penalties = [_penalty(each, threshold) for each in get_vd_links(chain)]
    if not penalties:
        message = (
            f"calculate_stats: `chain` must have variational layers, got a "
            f"{type(chain).__name__} without; call to_variational_dropout first"
        )
        raise ValueError(message)
    return {name: float(value) for name, value in combined(penalties).items()}


def _penalty(link: VariationalLink, threshold: float | None) -> Penalty:
    """The layer's statistics, and nothing of the KL that comes with them."""
    link.check_shape_is_known("calculate_stats")
    _, penalty = F.sparse_vd_kl(
        link.W.array,
        link.log_sigma2.array,
        threshold=link.loga_threshold if threshold is None else threshold,
        kl=link.kl,
        clip=link.clip,
        scale=0.0,
    )
    return penalty


def combined(penalties: Iterable[Penalty]) -> dict[str, Array]:
    """The statistics of :func:`calculate_stats` from the layers' penalties."""
    penalties = list(penalties)
    total = sum(each.theta_gradient.size for each in penalties)
    kept = sum(each.kept for each in penalties)
    xp = array_namespace(kept)
    one = xp.ones_like(kept)
    ratio = xp.where(kept > 0, total / xp.maximum(kept, one), one * xp.inf)
    return {
        "mean_p": sum(each.rate_sum for each in penalties) / total,
        "sparsity": 1 - kept / total,
        "W/Wnz": ratio,
    }
