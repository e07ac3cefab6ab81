"""Train a LeNet on MNIST by sparse variational dropout, prune it, run it sparse.

    VDCORE_DATASET_ROOT=/data python examples/mnist/train_mnist.py -o result/mnist
    ... --model lenet5 --relu-after-convolutions -o result/lenet5

Writes the log, snapshots, the trained and the sparse model and plots to the output
folder, and ends with errors, sizes and latencies. `--resume` continues from a snapshot
exactly where it was; `--dense`, then `--pretrained` is the two-stage recipe. Processes
that `mpiexec -n 2 python examples/mnist/train_mnist.py --communicator mpi` starts train
one model together.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from net import MODELS

import vdcore
from vdcore import (
    datasets,
    functions,
    initializers,
    inspection,
    iterators,
    optimizers,
    serializers,
    training,
)
from vdcore.training import extensions

DATASETS = {
    "mnist": datasets.get_mnist,
    "fashion-mnist": datasets.get_fashion_mnist,
    "kmnist": datasets.get_kmnist,
}
COLUMNS = (
    "epoch iteration main/loss main/class main/kl main/kl_coef main/accuracy "
    "validation/main/accuracy main/mean_p main/sparsity main/W/Wnz elapsed_time"
).split()
DENSE_COLUMNS = (
    "epoch iteration main/loss main/accuracy validation/main/accuracy elapsed_time"
).split()


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


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("-b", "--batchsize", type=positive, default=100, help="examples a batch")
    add("-e", "--epoch", type=positive, default=200, help="epochs to train")
    add(
        "-f",
        "--frequency",
        type=snapshot_frequency,
        default=-1,
        help="epochs between snapshots; -1: at the end only",
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
    add(
        "--communicator",
        choices=["mpi", "nccl"],
        help="how the processes that mpiexec started share the training, each with its "
        "own --batchsize, and with --gpu a GPU of its own",
    )
    add("-o", "--out", default="result/mnist", help="folder of everything written")
    add(
        "-r",
        "--resume",
        help="snapshot to continue from; the other options must be those of the run "
        "that wrote it",
    )
    add(
        "--autoload",
        action="store_true",
        help="continue from the last snapshot in --out, if there is one; see "
        "--frequency",
    )
    add("--model", default="lenet300100", choices=MODELS, help="network")
    add(
        "--relu-after-convolutions",
        action="store_true",
        help="rectifiers after the convolutions of lenet5 too, as the paper's code has",
    )
    add("--dataset", default="mnist", choices=DATASETS, help="images")
    add("--seed", type=int, default=0, help="of all random numbers")
    add(
        "--validation",
        type=int,
        default=0,
        help="hold out this many training examples and test on them instead",
    )
    add("--split", type=int, default=0, help="which random ones: a seed of their own")
    add(
        "--lr",
        type=not_negative,
        default=1e-3,
        help="Adam's step size: constant, then linear to 0 over the second half",
    )
    add(
        "--init-std",
        type=not_negative,
        default=0.01,
        help="standard deviation of the first weights",
    )
    add("--dense", action="store_true", help="train the plain network (first stage)")
    add("--pretrained", help="model file to start the weights from")
    add(
        "--kl",
        default="molchanov",
        choices=["molchanov", "exact"],
        help="approximate KL of the paper, or the exact one",
    )
    add("--kl-coef", type=float, default=1.0, help="KL temperature; 1 is the ELBO")
    add(
        "--kl-epochs",
        type=float,
        nargs=2,
        default=(5, 20),
        metavar=("FROM", "TO"),
        help="the KL term grows from 0 between these epochs",
    )
    add(
        "--mask-from",
        type=float,
        default=40,
        metavar="EPOCH",
        help="mask noise weights in training from this epoch on; -1: never",
    )
    add(
        "--fine-tune",
        type=float,
        default=0,
        metavar="EPOCHS",
        help="at the end, train the means alone: no KL, the noise as it is",
    )
    add("--threshold", type=float, default=3.0, help="on log alpha")
    args = parser.parse_args()
    if args.relu_after_convolutions and MODELS[args.model] is not MODELS["lenet5"]:
        parser.error("--relu-after-convolutions goes with --model lenet5")
    if args.autoload:
        latest = extensions.latest_snapshot(args.out)
        args.resume = str(latest) if latest else args.resume
    if args.gpu < 0 and (args.graph or args.profile):
        parser.error("--graph and --profile go with --gpu")
    if args.communicator and (args.graph or args.profile):
        parser.error("--graph and --profile do not go with --communicator")
    return args


def too_short(args):
    """A line on a schedule that goes beyond the last epoch; empty if none does."""
    start, end = args.kl_epochs
    late = [f"--kl-epochs {start:g} {end:g}"] * (end > args.epoch)
    late += [f"--mask-from {args.mask_from:g}"] * (args.mask_from >= args.epoch)
    if not late:
        return ""
    if start >= args.epoch:
        effect = "nothing will be pruned"
    elif end > args.epoch:
        effect = "little will be pruned"
    else:
        effect = "no weight will be masked in training"
    return f"warning: {' and '.join(late)} beyond --epoch {args.epoch}: {effect}"


def load_data(args):
    """Training and test set, scaled to [0, 1) and centred on the training mean."""
    ndim = MODELS[args.model].ndim
    train, test = DATASETS[args.dataset](ndim=ndim, scale=255 / 256)
    if args.validation:
        train, test = datasets.split_dataset_random(
            train, len(train) - args.validation, seed=args.split
        )
    (x, t), (x_test, t_test) = train.arrays, test.arrays
    mean = x.mean(axis=0)
    return datasets.TupleDataset(x - mean, t), datasets.TupleDataset(
        x_test - mean, t_test
    )


def build_model(args, num_examples):
    chosen = MODELS[args.model]
    options: dict[str, Any] = {"initialW": initializers.Normal(args.init_std)}
    if args.relu_after_convolutions:
        options["relu_after_convolutions"] = True
    if args.dense:
        return chosen.plain(**options)
    model = chosen.variational(
        **options,
        num_examples=num_examples,
        warm_up=0,
        variational={"kl": args.kl, "loga_threshold": args.threshold},
    )
    if args.pretrained:
        serializers.load_npz(args.pretrained, model, strict=False)
    return model


def dense_loss(model):
    def loss(x, t):
        y = model(x)
        value = functions.softmax_cross_entropy(y, t)
        accuracy = functions.accuracy(y, t)
        vdcore.report(
            {"loss": vdcore.arrays.untraced(value), "accuracy": accuracy}, model
        )
        return value

    return loss


def main():
    args = parse_args()
    communicator = None
    if args.communicator:
        communicator = training.create_communicator(args.communicator)
        args.gpu = communicator.intra_rank if args.gpu >= 0 else args.gpu
    is_main_rank = communicator is None or communicator.rank == 0
    if is_main_rank and not args.dense and too_short(args):
        print(too_short(args), file=sys.stderr)
    vdcore.seed(args.seed)
    train, test = load_data(args)
    model = build_model(args, len(train))
    device = "cpu" if args.gpu < 0 else args.gpu
    model.to_device(device)
    loss = dense_loss(model) if args.dense else model.calc_loss
    optimizer = optimizers.Adam(args.lr).setup(model)

    own_train, own_test = train.to_device(device), test.to_device(device)
    if communicator:
        scatter = datasets.scatter_dataset
        own_train = scatter(own_train, communicator, shuffle=True)
        own_test = scatter(own_test, communicator, force_equal_length=False)
        updater = training.ParallelUpdater(
            iterators.SerialIterator(own_train, args.batchsize),
            optimizer,
            communicator,
            device=device,
            loss_func=loss,
        )
    else:
        updater = training.StandardUpdater(
            iterators.SerialIterator(own_train, args.batchsize),
            optimizer,
            device=device,
            loss_func=loss,
            graph=args.graph,
        )
    if args.profile:
        print(inspection.profile_gpu(updater.update))
        return
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    trainer.extend(
        extensions.Evaluator(
            iterators.SerialIterator(own_test, 1000, repeat=False, shuffle=False),
            model,
            device=device,
            eval_func=loss,
            communicator=communicator,
        )
    )
    trainer.extend(
        extensions.LinearShift(
            "alpha", (args.lr, 0), (args.epoch / 2, args.epoch), unit="epoch"
        )
    )
    if not args.dense:
        trainer.extend(
            extensions.KLWarmUp(
                model,
                *args.kl_epochs,
                value=args.kl_coef,
                stop=args.epoch - args.fine_tune if args.fine_tune else None,
            )
        )
        if args.fine_tune:
            trainer.extend(extensions.FreezeNoise(model, args.epoch - args.fine_tune))
        if args.mask_from >= 0:
            trainer.extend(extensions.MaskFrom(model, args.mask_from))
    frequency = args.epoch if args.frequency < 0 else args.frequency
    trainer.extend(extensions.snapshot(), trigger=(frequency, "epoch"))
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.PrintReport(DENSE_COLUMNS if args.dense else COLUMNS))
    trainer.extend(extensions.ProgressBar())
    loss_name = "loss" if args.dense else "class"
    trainer.extend(
        extensions.PlotReport(
            [f"main/{loss_name}", f"validation/main/{loss_name}"],
            "epoch",
            file_name="loss.png",
            title="class loss, without the KL term",
            y_label="cross-entropy",
        )
    )
    if args.resume:
        serializers.load_npz(args.resume, trainer)
        if is_main_rank and updater.epoch >= args.epoch:
            print(
                f"{args.resume}: {updater.epoch} of {args.epoch} epochs are done: "
                "nothing is left to train",
                file=sys.stderr,
            )
    trainer.run()
    if not is_main_rank:
        return

    model.to_cpu()
    if args.dense:
        serializers.save_npz(Path(args.out) / "model.npz", model)
        dense = inspection.DenseModel(model, test.arrays[0].shape[1:])
        print(f"test error: {100 * inspection.error_rate(dense, *test.arrays):.2f} %")
    else:
        print()
        print(inspection.summarize(model, *test.arrays, args.out, settings=vars(args)))


if __name__ == "__main__":
    main()
