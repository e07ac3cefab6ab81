"""The command line of train_ptb.py, and the recipes that give its defaults."""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

from vdcore.training.extensions import latest_snapshot


class Recipe(NamedTuple):
    """Defaults that belong together, and clip thresholds of gradient norms."""

    units: int
    batchsize: int
    bproplen: int
    epoch: int
    dense_lr: float
    lr: float  # of Adam, for the variational network
    clip: float
    log_sigma2: float
    warm_up: float  # growth of the KL term with each window; 0: there from the start
    noise: str


RECIPES = {
    # The Chainer original, after the medium network of Zaremba, Sutskever and Vinyals
    # (2014), arXiv:1409.2329.
    "soskek": Recipe(650, 20, 35, 39, 1.0, 1e-5, 5, -10, 1e-5, "activations"),
    # Lobacheva, Chirkova and Vetrov (2017), arXiv:1708.00077, by their code: log sigma,
    # not its square, begins at -3.
    "lobacheva": Recipe(256, 32, 35, 150, 2e-3, 2e-3, 10, -6, 0, "weights"),
}
OF_CHARS = {
    "lobacheva": Recipe(1000, 64, 100, 250, 2e-3, 2e-3, 1, -6, 0, "weights"),
}
BY_RECIPE = (
    "units",
    "batchsize",
    "bproplen",
    "epoch",
    "log_sigma2",
    "warm_up",
    "noise",
)


def recipe_of(args):
    """The recipe that the options ask for."""
    recipe = RECIPES[args.recipe]
    return OF_CHARS.get(args.recipe, recipe) if args.data == "chars" else recipe


def positive(text):
    if int(text) < 1:
        message = f"must be at least 1, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def snapshot_frequency(text):
    if int(text) != -1 and int(text) < 1:
        message = f"must be at least 1, or -1 for the end, got {text}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def not_negative(text):
    if not 0 <= float(text) < math.inf:
        message = f"must be a finite number, positive or 0, got {text}"
        raise argparse.ArgumentTypeError(message)
    return float(text)


def ratio(text):
    if not 0 <= float(text) < 1:
        message = f"must lie in [0, 1), got {text}"
        raise argparse.ArgumentTypeError(message)
    return float(text)


def zero_or_one(text):
    if text not in {"0", "1"}:
        message = f"must be 0 or 1, or left out for 1, got {text}"
        raise argparse.ArgumentTypeError(message)
    return text == "1"


def by_recipe(field):
    values = [f"{getattr(r, field):g}, {name}" for name, r in RECIPES.items()]
    words = {name: getattr(r, field) for name, r in RECIPES.items()}
    values += [
        f"{getattr(r, field):g}, {name} of characters"
        for name, r in OF_CHARS.items()
        if getattr(r, field) != words[name]
    ]
    return f"; default by recipe: {'; '.join(values)}"


def parse_args(description):
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add(
        "--recipe",
        choices=RECIPES,
        default="soskek",
        help="network and defaults: of the Chainer original, an embedding and two "
        "LSTMs; of Lobacheva et al. (2017), words straight into one; default: soskek",
    )
    add(
        "--data",
        choices=["words", "chars"],
        default="words",
        help="predict words or characters; default: words",
    )
    add(
        "-b",
        "--batchsize",
        type=positive,
        help="streams read side by side" + by_recipe("batchsize"),
    )
    add(
        "-l",
        "--bproplen",
        type=positive,
        help="tokens that gradients go back" + by_recipe("bproplen"),
    )
    add("-e", "--epoch", type=positive, help="epochs to train" + by_recipe("epoch"))
    add(
        "-f",
        "--frequency",
        type=snapshot_frequency,
        default=5,
        help="epochs between snapshots, the last of which is written at the end; -1: "
        "at the end only; default: 5",
    )
    add("-g", "--gpu", type=int, default=-1, help="GPU number; -1, the default: CPU")
    add(
        "--graph",
        action="store_true",
        help="let the GPU repeat whole training steps by itself, as a CUDA graph",
    )
    add(
        "-o",
        "--out",
        default="result/ptb",
        help="folder of everything written; default: result/ptb",
    )
    add(
        "--pretrain",
        "--dense",
        type=zero_or_one,
        nargs="?",
        const=True,
        default=False,
        metavar="0|1",
        help="train the plain network, with ordinary dropout",
    )
    add(
        "-r",
        "--resume",
        default="",
        metavar="FILE",
        help="a snapshot of the same kind of run, to continue it (the other options "
        "must be those of that run); or, without --pretrain, a plain model to start "
        "from: model.npz of a run with --pretrain",
    )
    add(
        "--autoload",
        action="store_true",
        help="continue from the last snapshot in --out, if there is one; otherwise "
        "begin, with --resume if given",
    )
    add("--test", action="store_true", help="train on a few windows only, as a trial")
    add("-u", "--units", type=positive, help="of each LSTM" + by_recipe("units"))
    add("--seed", type=int, default=0, help="of all random numbers; default: 0")
    add(
        "--limit",
        type=positive,
        metavar="TOKENS",
        help="train on so many tokens only, the first",
    )
    add(
        "--lr",
        type=not_negative,
        help="step size" + by_recipe("lr") + "; with --pretrain SGD of 1, which from "
        "epoch 7 on is divided by 1.2 each epoch, and Adam of 0.002",
    )
    add(
        "--dropout",
        type=ratio,
        default=0.5,
        help="of --pretrain, between layers; default: 0.5",
    )
    add(
        "--log-sigma2",
        type=float,
        help="log variance that weights begin with" + by_recipe("log_sigma2"),
    )
    add(
        "--noise",
        choices=["weights", "activations"],
        help="of LSTM and embedding: one sample of the weights a window, for all its "
        "streams and steps (default with lobacheva), or of each activation, local "
        "reparameterisation (default with soskek)",
    )
    add(
        "--multipliers",
        nargs="*",
        choices=["words", "units", "gates"],
        default=[],
        metavar="GROUP",
        help="groups of weights that are learnt to be left out as a whole: words (rows "
        "of the embedding), units and gates of the LSTM; default: none",
    )
    add(
        "--kl",
        default="molchanov",
        choices=["molchanov", "exact"],
        help="approximate KL of the paper, the default, or the exact one",
    )
    add(
        "--kl-coef",
        type=not_negative,
        default=1.0,
        help="KL temperature; 1, the default, is the ELBO",
    )
    add(
        "--warm-up",
        type=not_negative,
        help="growth of the KL term with each window, from 0 to 1; 0: there from the "
        "start" + by_recipe("warm_up"),
    )
    add(
        "--mask-from",
        type=float,
        default=-1,
        metavar="EPOCH",
        help="mask noise weights in training from this epoch on; -1, the default: "
        "never; 0 is the Chainer original's",
    )
    add("--threshold", type=float, default=3.0, help="on log alpha; default: 3")
    args = parser.parse_args()
    recipe = recipe_of(args)
    for name in BY_RECIPE:
        if getattr(args, name) is None:
            setattr(args, name, getattr(recipe, name))
    if args.lr is None:
        args.lr = recipe.dense_lr if args.pretrain else recipe.lr
    if args.autoload:
        latest = latest_snapshot(args.out)
        args.resume = str(latest) if latest else args.resume
    if len(set(args.multipliers)) < len(args.multipliers):
        parser.error("--multipliers: name each group once")
    if args.gpu < 0 and args.graph:
        parser.error("--graph goes with --gpu")
    return args
