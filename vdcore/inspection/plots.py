"""Pictures of a variational model: where log alpha lies, which weights are left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from vdcore.arrays import to_numpy

if TYPE_CHECKING:
    from vdcore.links import VariationalDropoutChain


MAX_DOTS = 20_000  # weights drawn as one dot each


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure that needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = (
            "plot: pictures need matplotlib, which is not installed; "
            'run `pip install "vdcore[plot]"`'
        )
        raise ImportError(message) from error
    return Figure(figsize=(width, height), layout="constrained")


def plot_log_alpha(
    model: VariationalDropoutChain, path: str | os.PathLike[str]
) -> Path:
    """Histogram of log alpha, one panel a layer, with the threshold.

    A trained layer has two hills: weights with a signal on the left, noise on the
    right; the threshold should fall between them.
    """
    links = list(model.variational_links())
    figure = new_figure(3.6 * len(links), 3)
    panels = figure.subplots(1, len(links), squeeze=False)[0]
    for panel, (name, link) in zip(panels, links, strict=True):
        values = to_numpy(link.log_alpha()).ravel()
        low, high = numpy.quantile(values, [0.001, 0.999])
        margin = 0.05 * (high - low) + 0.5
        span = (
            min(low, link.loga_threshold) - margin,
            max(high, link.loga_threshold) + margin,
        )
        panel.hist(values, bins=120, range=span, color="#4477aa", log=True)
        panel.axvline(link.loga_threshold, color="#cc3311", linewidth=1.2)
        kept = 100 * float((values <= link.loga_threshold).mean())
        panel.set_title(f"{name}: {kept:.2f} % kept", fontsize=10)
        panel.set_xlabel("log alpha")
    panels[0].set_ylabel("weights")
    return _save(figure, path)


def plot_masks(model: VariationalDropoutChain, path: str | os.PathLike[str]) -> Path:
    """Draw the weights that are left: rows are outputs, columns inputs."""
    links = list(model.variational_links())
    figure = new_figure(10, 1.2 + 2.4 * len(links))
    panels = figure.subplots(len(links), 1, squeeze=False)[:, 0]
    for panel, (name, link) in zip(panels, links, strict=True):
        W = to_numpy(link.masked_W()).reshape(link.W.array.shape[0], -1)
        kept = W[W != 0]
        limit = numpy.quantile(numpy.abs(kept), 0.98) if kept.size else 1.0
        colours = {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}
        if kept.size > MAX_DOTS:
            panel.imshow(numpy.where(W != 0, W, numpy.nan), aspect="auto", **colours)
        else:  # drawn as pixels, a sparse matrix looks empty
            rows, columns = numpy.nonzero(W)
            size = min(9.0, 4000 / max(W.shape))
            panel.scatter(columns, rows, s=size, c=kept, linewidths=0, **colours)
            panel.set_xlim(-0.5, W.shape[1] - 0.5)
            panel.set_ylim(W.shape[0] - 0.5, -0.5)
        panel.set_title(
            f"{name}: {kept.size} of {W.size} weights, "
            f"{W.any(axis=0).sum()} of {W.shape[1]} inputs, "
            f"{W.any(axis=1).sum()} of {W.shape[0]} outputs used",
            fontsize=10,
        )
        panel.set_ylabel("output")
    panels[-1].set_xlabel("input (blue negative, red positive)")
    return _save(figure, path)


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
