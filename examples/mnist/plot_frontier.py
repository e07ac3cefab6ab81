"""Error against compression of finished runs, with the published points.

    python examples/mnist/plot_frontier.py result/frontier.png \
        "masks from epoch 40=result/m40-seed*" "no masks=result/never-seed*"

Each argument is a label and the output folders of its seeds. Prints mean and standard
deviation of each group as a table.
"""

from __future__ import annotations

import argparse
import glob
import json
from pathlib import Path
from typing import NamedTuple

import numpy
from matplotlib.figure import Figure


class Network(NamedTuple):
    """A network, and what was published for it: marker, weights over those left, %."""

    title: str
    published: dict[str, tuple[str, float, float]]


# Molchanov et al. 2017, table 1; Louizos, Ullrich, Welling 2017, table 1.
NETWORKS = {
    "lenet300100": Network(
        "LeNet-300-100",
        {
            "Sparse VD": ("*", 68, 1.92),
            "DNS": ("x", 56, 1.99),
            "SWS": ("+", 23, 1.94),
            "Han pruning": ("^", 12, 1.59),
        },
    ),
    "lenet5": Network(
        "LeNet-5",
        {
            "Sparse VD": ("*", 280, 0.75),
            "Sparse VD, by Louizos et al.": ("P", 63, 1.0),
            "DNS": ("x", 111, 0.91),
            "SWS": ("+", 200, 0.97),
            "Han pruning": ("^", 12, 0.77),
        },
    ),
}
TICKS = (10, 20, 30, 50, 70, 100, 150, 200, 300, 500)


def read_group(argument):
    label, _, pattern = argument.partition("=")
    files = [Path(folder, "summary.json") for folder in sorted(glob.glob(pattern))]
    if not files:
        message = f"plot_frontier: no folder matches {pattern!r} of {label!r}"
        raise SystemExit(message)
    summaries = [json.loads(file.read_text()) for file in files]
    errors = numpy.asarray([100 * s["pruned_error"] for s in summaries])
    ratios = numpy.asarray([s["weight_ratio"] for s in summaries])
    return label, ratios, errors, summaries


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("picture")
    parser.add_argument("--network", choices=NETWORKS, default="lenet300100")
    parser.add_argument("groups", nargs="+", metavar="LABEL=FOLDERS")
    args = parser.parse_args()

    figure = Figure(figsize=(6.5, 5.2), layout="constrained")
    panel = figure.subplots()
    network = NETWORKS[args.network]
    for name, (marker, ratio, error) in network.published.items():
        panel.plot(ratio, error, f"k{marker}", markersize=9, linestyle="none",
                   label=f"published, {name}")  # fmt: skip
    print("| runs | seeds | error % | W/W!=0 | with biases | bytes | bits |")
    print("|---|---|---|---|---|---|---|")
    for argument in args.groups:
        label, ratios, errors, summaries = read_group(argument)
        dots = panel.plot(ratios, errors, "o", alpha=0.4, markersize=5)[0]
        panel.errorbar(ratios.mean(), errors.mean(), xerr=ratios.std(ddof=1) if
                       len(ratios) > 1 else None, yerr=errors.std(ddof=1) if
                       len(errors) > 1 else None, fmt="s", color=dots.get_color(),
                       label=f"vdcore, {label}")  # fmt: skip
        spread = [x.std(ddof=1) if len(x) > 1 else 0 for x in (errors, ratios)]
        bytes_ = numpy.mean([s["sparse_bytes"] for s in summaries])
        print(
            f"| {label} | {len(errors)} "
            f"| {errors.mean():.2f} +- {spread[0]:.2f} "
            f"| {ratios.mean():.1f} +- {spread[1]:.1f} "
            f"| {numpy.mean([s['parameter_ratio'] for s in summaries]):.1f} "
            f"| {bytes_:,.0f} "
            f"| {numpy.mean([s['bits_ratio'] for s in summaries]):.0f} |"
        )
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    ticks = [tick for tick in TICKS if low < tick < high]
    panel.set_xticks(ticks, map(str, ticks))
    panel.minorticks_off()
    panel.set_xlabel("weights / weights left")
    panel.set_ylabel("test error, %")
    panel.set_title(f"{network.title} on MNIST")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    panel.grid(alpha=0.3)
    figure.savefig(args.picture, dpi=120)


if __name__ == "__main__":
    main()
