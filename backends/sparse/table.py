"""The table that says what is left of a sparse model's weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vdcore.backends.sparse.images import Convolution
from vdcore.backends.sparse.layer import Stage, WeightedStage


def weights_table(
    rows: Iterable[tuple[WeightedStage, WeightedStage, str]], layers: Iterable[Stage]
) -> str:
    """A line for each layer with weights, and one for all.

    Parameters
    ----------
    rows : iterable of (WeightedStage, WeightedStage, str)
        A layer as it is stored, without what does nothing, and how it is computed.
    layers : iterable of Stage
        All of the model, as stored.
    """
    cells = [
        (
            layer.name,
            "csr" if layer.is_sparse else "dense",
            form,
            _shape(layer),
            _shape(left),
            *_counts(layer.kept, layer.size, layer.nbytes),
        )
        for layer, left, form in rows
    ]
    layers = list(layers)
    kept, total, nbytes = (
        sum(getattr(layer, name) for layer in layers)
        for name in ("kept", "size", "nbytes")
    )
    cells.append(("total", "", "", "", "", *_counts(kept, total, nbytes)))
    head = (
        *("layer", "stored", "computed", "shape", "left"),
        *("weights", "zeros %", "bytes"),
    )
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < 3 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *cells)
    )


def _shape(layer: Any) -> str:
    """Output by input units, or output by input channels by rows by columns."""
    sizes = layer.W.shape
    if isinstance(layer, Convolution):
        sizes = (sizes[0], layer.in_channels // layer.groups, *layer.window.size)
    return "x".join(map(str, sizes))


def _counts(kept: int, total: int, nbytes: int) -> tuple[str, str, str]:
    return f"{kept:,} / {total:,}", f"{100 * (1 - kept / total):.2f}", f"{nbytes:,}"
