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
COLUMNS = 5  # panels side by side


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
    right; the threshold should fall between them. Above the clip the KL term pushes no
    further, so noise weights pile up there.
    """
    links = list(model.variational_links())
    values = [to_numpy(link.log_alpha()).ravel() for _, link in links]
    ends = [numpy.quantile(v, [0.001, 0.999]) for v in values]
    ends += [numpy.full(2, link.loga_threshold) for _, link in links]
    low, high = numpy.min(ends), numpy.max(ends)
    margin = 0.05 * (high - low) + 0.5
    span = (low - margin, high + margin)
    columns = min(len(links), COLUMNS)
    rows = -(-len(links) // columns)
    figure = new_figure(max(3.6 * columns, 6), 0.5 + 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(links) :]:
        panel.remove()
    lines = {}
    for panel, (name, link), v in zip(panels, links, values, strict=False):
        panel.hist(v, bins=120, range=span, color="#4477aa", log=True)
        panel.set_xlim(span)
        limit = link.loga_threshold
        label = f"pruned: log alpha > {limit:g}"
        lines[label] = panel.axvline(limit, color="#cc3311", linewidth=1.2)
        if link.clip is not None and (v > link.clip).any():
            label = f"clip: the KL term ends its push at {link.clip:g}"
            style = {"color": "black", "linestyle": ":", "linewidth": 1.2}
            lines[label] = panel.axvline(link.clip, **style)
        panel.set_title(f"{name}: {100 * (v > limit).mean():.2f} % pruned", fontsize=10)
        panel.set_xlabel("log alpha")
        panel.set_ylabel("weights")
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=2, fontsize=9
    )
    return _save(figure, path)


def plot_masks(model: VariationalDropoutChain, path: str | os.PathLike[str]) -> Path:
    """Draw the weights that are left: rows are outputs, columns inputs.

    Of a convolution each column is one element of an input channel's kernel.
    """
    links = list(model.variational_links())
    figure = new_figure(10, 1.2 + 2.4 * len(links))
    panels = figure.subplots(len(links), 1, squeeze=False)[:, 0]
    for panel, (name, link) in zip(panels, links, strict=True):
        W = to_numpy(link.masked_W()).reshape(link.W.array.shape[0], -1)
        kept = W[W != 0]
        limit = numpy.quantile(numpy.abs(kept), 0.98) if kept.size else 1.0
        colours = {"cmap": _sign_colours(), "vmin": -limit, "vmax": limit}
        if kept.size > MAX_DOTS:
            seen = numpy.where(W != 0, W, numpy.nan)
            drawn = panel.imshow(seen, aspect="auto", **colours)
        else:  # drawn as pixels, a sparse matrix looks empty
            rows, columns = numpy.nonzero(W)
            size = min(16.0, 6000 / max(W.shape))
            drawn = panel.scatter(
                columns, rows, s=size, c=kept, linewidths=0, clip_on=False, **colours
            )
            panel.set_xlim(-0.5, W.shape[1] - 0.5)
            panel.set_ylim(W.shape[0] - 0.5, -0.5)
        figure.colorbar(drawn, ax=panel, label="weight", extend="both", aspect=12)
        counts = link.layer_size(name)
        panel.set_title(
            f"{name}: {counts.weights_kept:,} of {counts.weights:,} weights, "
            f"{counts.inputs_kept:,} of {counts.inputs:,} inputs, "
            f"{counts.outputs_kept:,} of {counts.outputs:,} outputs used",
            fontsize=10,
        )
        panel.set_ylabel("output")
    panels[-1].set_xlabel("input (blank: pruned)")
    return _save(figure, path)


def _sign_colours() -> Any:
    """Blue below 0, red above, none of them pale: even a small weight is seen."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    shades = numpy.linspace(0.45, 0.9, 128)
    return ListedColormap(
        [*colormaps["Blues"](shades[::-1]), *colormaps["Reds"](shades)]
    )


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
