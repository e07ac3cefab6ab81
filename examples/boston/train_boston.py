"""Boston housing: how the weight of the KL term trades test error against size.

    VDCORE_DATASET_ROOT=/data python examples/boston/train_boston.py -o result/boston

A 13-150-1 network is trained plain ("none") and by variational dropout, with the KL
term multiplied by one number after the other, on random splits of the data; each run
has a process, and there are as many at a time as cores. Ends with a table over the
splits (summary.txt, summary.json) and a plot (frontier.png). Finished runs are kept in
the output folder: the same command again does what is missing.

The multiplier of the evidence lower bound would be 2 s^2 / 404, if the errors were
Gaussian of variance s^2. --validation 81 measures on examples of the training part
instead of the test part, to choose settings by.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
from functools import partial
from pathlib import Path

# One thread a process, here and in those started; read when NumPy is loaded.
os.environ |= dict.fromkeys(["OPENBLAS_NUM_THREADS", "VDCORE_NUM_THREADS"], "1")

import numpy
from matplotlib.figure import Figure
from tqdm import tqdm

import vdcore
from vdcore import datasets, initializers, optimizers
from vdcore import functions as F
from vdcore import links as L
from vdcore.files import write_text_atomically

# Those of pytorch_ard's table, and 0.01 from the gap in it.
MULTIPLIERS = "none 0 0.0001 0.001 0.01 0.1 1".split()
POINTS = 40  # of the course of training that are kept
MEASURES = ("train_mse", "test_mse", "above_plain", "dropped_percent")
KEPT = "weights parameters units bytes bits".split()  # the five measures of size


class PriceNet(L.VariationalDropoutChain):
    """13-150-1 of pytorch_ard: tanh, Xavier weights with the gain of a rectifier.

    The rectifier at the end is the original's too; prices are positive. It starts at
    the mean price: from 0, it could be dead for all examples.
    """

    def __init__(self, linear, mean_price):
        super().__init__()
        W = initializers.GlorotUniform(math.sqrt(2))
        with self.init_scope():
            self.l1 = linear(13, 150, initialW=W)
            self.l2 = linear(150, 1, initialW=W, initial_bias=mean_price)

    def forward(self, x):
        return F.relu(self.l2(F.tanh(self.l1(x))))


def load(split, validation, raw):
    """Arrays x, t to train on and x, t to test on, of a split."""
    train, test = datasets.get_boston(split)
    if validation:
        train, test = datasets.split_dataset(train, len(train) - validation)
    (x, t), (x_test, t_test) = train.arrays, test.arrays
    if not raw:
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    return x, t, x_test, t_test


def train(multiplier, split, settings):
    """Train one network; returns its errors and what is left of it."""
    vdcore.seed(split)
    x, t, x_test, t_test = load(split, settings["validation"], settings["raw"])
    is_dense = multiplier == "none"
    linear = L.Linear if is_dense else L.VariationalDropoutLinear
    model = PriceNet(linear, float(t.mean()))
    layers = [link for _, link in model.variational_links()]
    optimizer = optimizers.Adam(settings["lr"]).setup(model)

    def loss(kl_weight):
        value = F.mean_squared_error(model(x), t)
        for layer in layers if kl_weight else ():
            value = value + layer.penalty(kl_weight)[0]
        return value

    kl_weight = 0.0 if is_dense else float(multiplier)
    epochs = settings["epochs"]
    course = {"epoch": [], "train_mse": [], "test_mse": []}
    for epoch in range(epochs):
        optimizer.update(loss, kl_weight * min(1, 2 * epoch / epochs))
        if (epoch + 1) * POINTS // epochs > epoch * POINTS // epochs:
            course["epoch"].append(epoch + 1)
            with vdcore.using_config("train", False):
                for name, inputs, prices in (("train", x, t), ("test", x_test, t_test)):
                    error = F.mean_squared_error(model(inputs), prices)
                    course[f"{name}_mse"].append(float(error))
    kept = dict.fromkeys(KEPT, 1.0) if is_dense else fractions_kept(model.size())
    return {"course": course, "kept": kept}


def fractions_kept(size):
    """What is left of the five measures, of 1."""
    return {
        "weights": size.weights_kept / size.weights,
        "parameters": 1 / size.parameter_ratio,
        "units": size.units_kept / size.units,
        "bytes": size.sparse_bytes / size.dense_bytes,
        "bits": 1 / size.bits_ratio,
    }


def result_file(folder, run):
    """Where the result of a run, a multiplier and a split, is kept."""
    multiplier, split = run
    return folder / f"kl-{multiplier}-split-{split}.json"


def do_run(run, folder, settings):
    result = train(*run, settings)
    content = {"settings": settings, "result": result}
    write_text_atomically(result_file(folder, run), json.dumps(content, indent=1))


def read_result(run, folder, settings):
    """The kept result of a run, None if there is none."""
    file = result_file(folder, run)
    if not file.exists():
        return None
    stored = json.loads(file.read_text())
    if stored["settings"] != settings:
        message = (
            f"{file} is of a run with other settings, {stored['settings']}; give those "
            "again, or another --out"
        )
        raise SystemExit(message)
    return stored["result"]


def summarize(multiplier, results, plain):
    """Means and standard deviations over the splits, and the mean course.

    The test error is compared with that of the plain network split by split, for splits
    differ more than networks do. What is kept is averaged, not the ratio, which is
    infinite where nothing is.
    """
    courses = {
        name: numpy.asarray([result["course"][name] for result in results])
        for name in ("epoch", "train_mse", "test_mse")
    }
    dropped = numpy.asarray([100 * (1 - r["kept"]["weights"]) for r in results])
    test_mse = courses["test_mse"][:, -1]
    plain_mse = numpy.asarray([result["course"]["test_mse"][-1] for result in plain])
    measures = {
        "train_mse": courses["train_mse"][:, -1],
        "test_mse": test_mse,
        "above_plain": test_mse - plain_mse if plain else numpy.zeros(0),
        "dropped_percent": dropped,
    }
    return {
        "multiplier": multiplier,
        "splits": len(results),
        **{name: mean_and_std(values) for name, values in measures.items()},
        "kept": {k: float(numpy.mean([r["kept"][k] for r in results])) for k in KEPT},
        "course": {name: c.mean(axis=0).tolist() for name, c in courses.items()},
    }


def mean_and_std(values):
    if not len(values):
        return None
    std = numpy.std(values, ddof=1) if len(values) > 1 else 0.0
    return {"mean": float(numpy.mean(values)), "std": float(std)}


def table(summaries):
    """Figures over the splits, as a Markdown table."""
    head = [
        "KL x", "train MSE", "test MSE", "above plain", "lowest on the way (epoch)",
        "dropped %", "W/Wnz", "with biases", "units", "bytes", "bits",
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for row in summaries:
        train_mse, test_mse, above, dropped = (
            f"{value['mean']:.2f} +- {value['std']:.2f}" if value else "-"
            for value in map(row.get, MEASURES)
        )
        course = row["course"]
        best = int(numpy.argmin(course["test_mse"]))
        lowest = f"{course['test_mse'][best]:.2f} ({course['epoch'][best]:.0f})"
        ratios = [f"{ratio(row['kept'][name]):.1f}" for name in KEPT]
        errors = [train_mse, test_mse, above, lowest]
        rows.append([row["multiplier"], *errors, dropped, *ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(fraction):
    return 1 / fraction if fraction else math.inf


def plot(summaries, file):
    """Test error and compression against the multiplier."""
    figure = Figure(figsize=(6.5, 6.5), layout="constrained")
    errors, sizes = figure.subplots(2, sharex=True)
    places = range(len(summaries))
    for name, colour in (("test_mse", "#cc3311"), ("train_mse", "#4477aa")):
        mean, std = ([row[name][key] for row in summaries] for key in ("mean", "std"))
        errors.errorbar(places, mean, std, fmt="o-", capsize=3, color=colour,
                        label=name.replace("_mse", " MSE"))  # fmt: skip
    if summaries[0]["multiplier"] == "none":
        dense = summaries[0]["test_mse"]["mean"]
        errors.axhline(dense, color="#cc3311", linestyle=":", label="plain, test MSE")
    errors.set_ylabel("mean squared error, $1000 squared")
    errors.legend()
    ratios = [ratio(row["kept"]["weights"]) for row in summaries]
    sizes.plot(places, ratios, "s-", color="black")
    sizes.set_yscale("log")
    sizes.set_ylabel("weights / weights left")
    sizes.set_xlabel("multiplier of the KL term")
    sizes.set_xticks(places, [row["multiplier"] for row in summaries])
    for panel in (errors, sizes):
        panel.grid(alpha=0.3)
    figure.suptitle(f"Boston housing, 13-150-1, {summaries[0]['splits']} splits")
    figure.savefig(file, dpi=120)


def multiplier(text):
    if text != "none" and not 0 <= float(text) < math.inf:
        message = f'must be "none" or a finite number, positive or 0, got {text}'
        raise argparse.ArgumentTypeError(message)
    return text


def step_size(text):
    if not 0 < float(text) < math.inf:
        message = f"must be a finite positive number, got {text}"
        raise argparse.ArgumentTypeError(message)
    return float(text)


def positive(text):
    if int(text) < 1:
        message = f"must be at least 1, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def validation_size(text):
    if not 0 <= int(text) < 404:
        message = f"must be 0 to 403 of the 404 training examples, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("-e", "--epochs", type=positive, default=10_000,
        help="steps on all training examples; published: 100000")  # fmt: skip
    add("-o", "--out", type=Path, default=Path("result/boston"), help="output folder")
    add("--multipliers", type=multiplier, nargs="+", default=MULTIPLIERS,
        help='of the KL term; "none" is the plain network')  # fmt: skip
    add("--splits", type=positive, default=20, help="seeds 0 to this many less 1")
    add("--lr", type=step_size, default=1e-3, help="Adam's step size")
    add("--raw", action="store_true", help="inputs as they are, as the original has it")
    add("--validation", type=validation_size, default=0,
        help="test on this many training examples, not on the test part")  # fmt: skip
    add("--processes", type=positive, default=os.cpu_count(), help="runs at a time")
    return parser.parse_args()


def main():
    args = parse_args()
    folder = args.out / "runs"
    names = ("epochs", "lr", "raw", "validation")
    settings = {name: getattr(args, name) for name in names}
    runs = [(m, split) for split in range(args.splits) for m in args.multipliers]
    missing = [run for run in runs if read_result(run, folder, settings) is None]
    datasets.get_boston()  # downloaded once, if at all, and before there are processes
    if missing:
        work = partial(do_run, folder=folder, settings=settings)
        processes = min(args.processes, len(missing))
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            done = pool.imap_unordered(work, missing)
            for _ in tqdm(done, total=len(missing), unit="run"):
                pass
    results = {
        m: [read_result((m, split), folder, settings) for split in range(args.splits)]
        for m in args.multipliers
    }
    plain = results.get("none", [])
    summaries = [summarize(m, done, plain) for m, done in results.items()]
    text = table(summaries)
    print(text)
    write_text_atomically(args.out / "summary.txt", f"{text}\n")
    content = {"settings": settings, "summaries": summaries}
    write_text_atomically(args.out / "summary.json", json.dumps(content, indent=1))
    plot(summaries, args.out / "frontier.png")


if __name__ == "__main__":
    main()
