"""Perplexity and compression, epoch by epoch, beside those of the published logs.

    python examples/ptb/plot_curves.py result/curves.png \
        "vdcore=result/ptb/lobacheva" "vdcore, plain=result/ptb/dense"

Each argument is a label and the output folder of a run of ``--recipe lobacheva``.
Prints a table of the epochs that all have.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

# Of the logs in the repository of Lobacheva et al. (2017) and Chirkova et al. (2018):
# validation perplexity, and weights over those left, of epochs 1, 2, ...
PUBLISHED = {
    "published": (
        [594.4, 389.6, 317.6, 281.3, 257.8, 240.5, 227.5, 217.8, 207.2, 200.1],
        [20.0, 21.3, 23.6, 25.5, 27.6, 28.3, 28.7, 29.1, 29.2, 29.3],
    ),
    "published, units and gates": (
        [566.0, 341.1, 264.6, 234.3, 215.6, 202.6, 193.0, 185.7, 179.3, 174.3],
        [19.3, 22.2, 26.7, 29.1, 30.1, 30.9, 31.2, 31.2, 31.3, 31.1],
    ),
    "published, plain": (
        [342.0, 223.8, 177.4, 155.2, 143.6, 137.3, 135.7, 135.6, 137.8, 139.9],
        [],
    ),
}


def read_run(argument):
    """Label, validation perplexities and compression of a run."""
    label, _, folder = argument.partition("=")
    log = Path(folder, "log")
    if not log.is_file():
        message = f"plot_curves: {folder!r} of {label!r} is no folder with a log"
        raise SystemExit(message)
    rows = [row for row in json.loads(log.read_text()) if "val_perplexity" in row]
    ratios = [row["main/W/Wnz"] for row in rows if "main/W/Wnz" in row]
    return label, ([row["val_perplexity"] for row in rows], ratios)


def table(curves):
    """Rows of the epochs that all curves have, in Markdown."""
    yield "| epoch | " + " | ".join(curves) + " |"
    yield "|---" * (len(curves) + 1) + "|"
    epochs = min(len(perplexities) for perplexities, _ in curves.values())
    for epoch in range(epochs):
        cells = []
        for perplexities, ratios in curves.values():
            ratio = f" at {ratios[epoch]:.1f}x" if ratios else ""
            cells.append(f"{perplexities[epoch]:.1f}{ratio}")
        yield f"| {epoch + 1} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("picture")
    parser.add_argument("runs", nargs="+", metavar="LABEL=FOLDER")
    args = parser.parse_args()
    runs = dict(read_run(argument) for argument in args.runs)
    curves = PUBLISHED | runs
    print("\n".join(table(curves)))
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label, (perplexities, ratios) in curves.items():
        style = "--" if label in PUBLISHED else "-"
        epochs = range(1, len(perplexities) + 1)
        (line,) = left.plot(epochs, perplexities, style, label=label)
        right.plot(range(1, len(ratios) + 1), ratios, style, color=line.get_color())
    left.set_yscale("log")
    ticks = [100, 150, 200, 300, 400, 600, 800]
    left.set_yticks(ticks, map(str, ticks))
    left.minorticks_off()
    left.set_ylabel("validation perplexity")
    right.set_ylabel("weights / weights left")
    for panel in (left, right):
        panel.set_xlabel("epoch")
        panel.grid(alpha=0.3)
    figure.suptitle("LSTM of 256 units on the Penn Treebank's words")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
