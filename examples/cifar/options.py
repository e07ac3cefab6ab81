"""The command line of train_cifar.py."""

from __future__ import annotations

import argparse
import math

from vdcore.training.extensions import latest_snapshot


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


def above_zero(text):
    if not 0 < float(text) < math.inf:
        message = f"must be a finite number above 0, got {text}"
        raise argparse.ArgumentTypeError(message)
    return float(text)


def zero_or_one(text):
    if text not in {"0", "1"}:
        message = f"must be 0 or 1, or left out for 1, got {text}"
        raise argparse.ArgumentTypeError(message)
    return text == "1"


def parse_args(description):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add(
        "-d",
        "--dataset",
        default="cifar10",
        choices=["cifar10", "cifar100"],
        help="images; of cifar100 the 100 fine classes",
    )
    add("-b", "--batchsize", type=positive, default=128, help="examples a batch")
    add("-e", "--epoch", type=positive, default=100, help="epochs to train")
    add(
        "-f",
        "--frequency",
        type=snapshot_frequency,
        default=10,
        help="epochs between snapshots, the last of which is written at the end; -1: "
        "at the end only",
    )
    add("-g", "--gpu", type=int, default=-1, help="GPU number; -1: CPU")
    add(
        "--graph",
        action="store_true",
        help="let the GPU repeat whole training steps by itself, as a CUDA graph",
    )
    add(
        "--profile",
        action="store_true",
        help="run 100 iterations, say what the GPU did in them, and end",
    )
    add("-o", "--out", default="result/cifar", help="folder of everything written")
    add(
        "--pretrain",
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
        metavar="FILE",
        help="a snapshot of the same kind of run, to continue it (the other options "
        "must be those of that run); or a model to start from, without --pretrain a "
        "plain one: model.npz or a snapshot of a run with --pretrain",
    )
    add(
        "--autoload",
        action="store_true",
        help="continue from the last snapshot in --out, if there is one; otherwise "
        "begin, with --resume if given",
    )
    add(
        "-ro",
        "--resume-opt",
        metavar="FILE",
        help="snapshot to take the state of the optimizer from",
    )
    add("--model", default="vgg16", choices=["vgg16"], help="network")
    add(
        "--width",
        type=above_zero,
        default=1.0,
        help="multiplies the numbers of channels and hidden units",
    )
    add("--seed", type=int, default=0, help="of all random numbers")
    add(
        "--validation",
        type=int,
        default=0,
        help="hold out this many training examples and test on them instead",
    )
    add("--split", type=int, default=0, help="which random ones: a seed of their own")
    add("--limit", type=positive, help="train on so many images only, the first")
    add(
        "--standardize",
        default="pixel",
        choices=["pixel", "channel"],
        help="what has a mean and a deviation of its own; with --resume those of "
        "standardization.npz beside that file are taken, if it is there",
    )
    add(
        "--no-augmentation",
        action="store_true",
        help="train on the images as they are, not cropped and mirrored at random",
    )
    add(
        "--lr",
        type=not_negative,
        help="step size; default 0.1 with --pretrain, halved every 25 epochs; from a "
        "plain model 1e-5; from scratch 1e-4, linear to 0 over the run",
    )
    add(
        "--log-sigma2",
        type=float,
        default=-10.0,
        help="log variance that weights begin with",
    )
    add(
        "--kl",
        default="molchanov",
        choices=["molchanov", "exact"],
        help="approximate KL of the paper, or the exact one",
    )
    add(
        "--kl-coef",
        type=not_negative,
        default=1.0,
        help="KL temperature; 1 is the ELBO",
    )
    growth = parser.add_mutually_exclusive_group()
    growth.add_argument(
        "--warm-up",
        type=not_negative,
        help="growth of the KL term with each iteration, from 0 to 1, or 0: there from "
        "the start; default 1 from a plain model: all but the first iteration have it; "
        "from scratch 1e-4",
    )
    growth.add_argument(
        "--kl-epochs",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="instead: the KL term grows from 0 between these epochs",
    )
    add(
        "--mask-from",
        type=float,
        default=-1,
        metavar="EPOCH",
        help="mask noise weights in training from this epoch on; -1: never; 0 is the "
        "Chainer original's",
    )
    add(
        "--fine-tune",
        type=not_negative,
        default=0,
        metavar="EPOCHS",
        help="at the end, train the means alone: no KL, the noise as it is",
    )
    add("--threshold", type=float, default=3.0, help="on log alpha")
    args = parser.parse_args()
    if args.autoload:
        latest = latest_snapshot(args.out)
        args.resume = str(latest) if latest else args.resume
    if args.gpu < 0 and (args.graph or args.profile):
        parser.error("--graph and --profile go with --gpu")
    return args
