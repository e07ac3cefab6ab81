"""Train LeNet-300-100 on MNIST by sparse variational dropout, prune it, run it sparse.

    VDCORE_DATASET_ROOT=/data python examples/mnist/train_mnist.py -o result/mnist

Writes the log, snapshots, the trained and the sparse model and plots to the output
folder, and ends with errors, sizes and latencies. `--resume` continues from a snapshot
exactly where it was; `--dense`, then `--pretrained` is the two-stage recipe.
"""

from __future__ import annotations

import argparse
from pathlib import Path

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


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("-b", "--batchsize", type=int, default=100)
    add("-e", "--epoch", type=int, default=200)
    add(
        "-f",
        "--frequency",
        type=int,
        default=-1,
        help="epochs between snapshots; -1: at the end only",
    )
    add("-g", "--gpu", type=int, default=-1, help="GPU number; -1: CPU")
    add("-o", "--out", default="result/mnist", help="folder of everything written")
    add("-r", "--resume", default="", help="snapshot to continue from")
    add("--model", default="lenet300100", choices=MODELS)
    add("--dataset", default="mnist", choices=DATASETS)
    add("--seed", type=int, default=0)
    add(
        "--validation",
        type=int,
        default=0,
        help="hold out this many training examples and test on them instead",
    )
    add("--split", type=int, default=0, help="which random ones: a seed of their own")
    add(
        "--lr",
        type=float,
        default=1e-3,
        help="Adam's step size: constant, then linear to 0 over the second half",
    )
    add("--init-std", type=float, default=0.01, help="of the first weights")
    add("--dense", action="store_true", help="train the plain network (first stage)")
    add("--pretrained", default="", help="model file to start the weights from")
    add("--kl", default="molchanov", choices=["molchanov", "exact"])
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
    return parser.parse_args()


def load_data(args):
    """Training and test set, scaled to [0, 1) and centred on the training mean."""
    train, test = DATASETS[args.dataset](scale=255 / 256)
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
    plain, variational = MODELS[args.model]
    initialW = initializers.Normal(args.init_std)
    if args.dense:
        return plain(initialW)
    model = variational(
        initialW=initialW,
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
    vdcore.seed(args.seed)
    train, test = load_data(args)
    model = build_model(args, len(train))
    device = "cpu" if args.gpu < 0 else args.gpu
    model.to_device(device)
    loss = dense_loss(model) if args.dense else model.calc_loss
    optimizer = optimizers.Adam(args.lr).setup(model)

    updater = training.StandardUpdater(
        iterators.SerialIterator(train, args.batchsize),
        optimizer,
        device=device,
        loss_func=loss,
    )
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    trainer.extend(
        extensions.Evaluator(
            iterators.SerialIterator(test, 1000, repeat=False, shuffle=False),
            model,
            device=device,
            eval_func=loss,
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
    trainer.extend(extensions.PrintReport(COLUMNS))
    trainer.extend(extensions.ProgressBar())
    trainer.extend(
        extensions.PlotReport(
            ["main/loss", "validation/main/loss"], "epoch", file_name="loss.png"
        )
    )
    if args.resume:
        serializers.load_npz(args.resume, trainer)
    trainer.run()

    model.to_cpu()
    if args.dense:
        serializers.save_npz(Path(args.out) / "model.npz", model)
        dense = inspection.DenseModel(model)
        print(f"test error: {100 * inspection.error_rate(dense, *test.arrays):.2f} %")
    else:
        print()
        print(inspection.summarize(model, *test.arrays, args.out, settings=vars(args)))


if __name__ == "__main__":
    main()
