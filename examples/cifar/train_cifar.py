"""Train VGG16 on CIFAR-10 or CIFAR-100 by sparse variational dropout, prune it, run it.

In two stages, the plain network and then the variational one from its weights, or from
scratch at once:

    export VDCORE_DATASET_ROOT=/data
    python examples/cifar/train_cifar.py --pretrain -o result/cifar/dense
    python examples/cifar/train_cifar.py -r result/cifar/dense/model.npz

    python examples/cifar/train_cifar.py -o result/cifar/scratch

Writes log, snapshots, the standardization of the images, the trained and the sparse
model and plots to the output folder, and ends with errors, sizes and latencies. `-r`
with a snapshot of a run continues it exactly where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from net import VGG16, VGG16VD
from options import parse_args
from resuming import (
    Settings,
    changed_options,
    check_sizes,
    choose_mode,
    continues,
    read_source,
    standardization_of,
    take_model,
    take_optimizer_state,
)

import vdcore
from vdcore import (
    datasets,
    functions,
    inspection,
    iterators,
    optimizers,
    serializers,
    training,
)
from vdcore.training import extensions
from vdcore.training.triggers import ManualScheduleTrigger

DATASETS = {
    "cifar10": (datasets.get_cifar10, 10),
    "cifar100": (datasets.get_cifar100, 100),
}
MODELS = {"vgg16": (VGG16, VGG16VD)}
# What a run trains: "pretrain" the plain network, "pretrained" the variational one from
# its weights, "scratch" the variational one.
LR = {"pretrain": 0.1, "pretrained": 1e-5, "scratch": 1e-4}
WARM_UP = {"pretrain": 0, "pretrained": 1, "scratch": 1e-4}
COLUMNS = (
    "epoch iteration main/loss validation/main/loss main/accuracy "
    "validation/main/accuracy main/class main/kl main/mean_p main/sparsity main/W/Wnz "
    "main/kl_coef elapsed_time"
).split()
DENSE_COLUMNS = (
    "epoch iteration main/loss validation/main/loss main/accuracy "
    "validation/main/accuracy lr elapsed_time"
).split()


def load_data(args):
    """Training and test set; values from 0 to 1."""
    train, test = DATASETS[args.dataset][0]()
    if args.validation:
        train, test = datasets.split_dataset_random(
            train, len(train) - args.validation, seed=args.split
        )
    return train[: args.limit], test


def build_model(args, mode, num_examples):
    plain, variational = MODELS[args.model]
    options: dict[str, Any] = {
        "class_labels": DATASETS[args.dataset][1],
        "width": args.width,
    }
    if mode == "pretrain":
        model = plain(**options)
        model.set_raw_dropout(True)
        return model
    return variational(
        **options,
        num_examples=num_examples,
        warm_up=0,
        variational={
            "kl": args.kl,
            "loga_threshold": args.threshold,
            "initial_log_sigma2": args.log_sigma2,
        },
    )


def build_optimizer(args, mode, model):
    """The optimizer, and the schedule of its step size, with when that goes on."""
    if mode == "pretrain":
        optimizer = optimizers.MomentumSGD(args.lr, 0.9).setup(model)
        optimizer.add_hook(optimizers.WeightDecay(5e-4))
        return optimizer, extensions.ExponentialShift("lr", 0.5), (25, "epoch")
    optimizer = optimizers.Adam(args.lr).setup(model)
    if mode == "pretrained":
        return optimizer, None, None
    optimizer.add_hook(optimizers.GradientClipping(10))
    shift = extensions.LinearShift("alpha", (args.lr, 0), (0, args.epoch), unit="epoch")
    return optimizer, shift, None


def kl_epochs(args, num_examples):
    """The epochs between which the KL term grows."""
    if args.kl_epochs:
        return args.kl_epochs
    iterations = 1 / args.warm_up if args.warm_up else 0
    return 0, iterations * args.batchsize / num_examples


def too_short(args, num_examples):
    """A line on what the last epoch comes too early for; empty if there is nothing."""
    start, end = kl_epochs(args, num_examples)
    last = args.epoch - args.fine_tune
    late = []
    if end > last:
        share = max(0, last - start) / (end - start)
        late.append(f"the KL term grows to {share:.2g} of its weight only")
    if args.mask_from >= args.epoch:
        late.append("no weight will be masked in training")
    return f"warning: --epoch {args.epoch}: {' and '.join(late)}" if late else ""


def plain_loss(model):
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
    args = parse_args(__doc__.split("\n")[0])
    source = read_source(args.resume) if args.resume else None
    mode = choose_mode(args, source)
    is_plain = mode == "pretrain"
    args.lr = LR[mode] if args.lr is None else args.lr
    args.warm_up = WARM_UP[mode] if args.warm_up is None else args.warm_up
    settings = vars(args) | {"mode": mode}

    vdcore.seed(args.seed)
    train, test = load_data(args)
    if not is_plain and too_short(args, len(train)):
        print(too_short(args, len(train)), file=sys.stderr)
    model = build_model(args, mode, len(train))
    if source:
        check_sizes(source, model, args)
    if source and not continues(source, args):
        print(take_model(source, model, build_model(args, "pretrain", None)))
    standardization = standardization_of(args, train.arrays[0])
    train, test = (
        datasets.TupleDataset(standardization(x), t)
        for x, t in (train.arrays, test.arrays)
    )
    serializers.save_npz(Path(args.out) / "standardization.npz", standardization)

    device = "cpu" if args.gpu < 0 else args.gpu
    model.to_device(device)
    loss = plain_loss(model) if is_plain else model.calc_loss
    optimizer, shift, period = build_optimizer(args, mode, model)
    weights = sum(p.array.size for path, p in model.namedparams() if path[-2:] == "/W")
    print(
        f"{args.dataset}: {len(train)} training, {len(test)} test images; "
        f"{type(model).__name__} with {weights:,} weights, "
        f"{type(optimizer).__name__} {args.lr:g}"
    )

    transform = None if args.no_augmentation else datasets.RandomCropFlip()
    on_device = train.to_device(device)
    updater = training.StandardUpdater(
        iterators.SerialIterator(on_device, args.batchsize, transform=transform),
        optimizer,
        device=device,
        loss_func=loss,
        graph=args.graph,
    )
    if args.profile:
        print(inspection.profile_gpu(updater.update))
        return
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    trainer.extend(Settings(settings))
    evaluator = extensions.Evaluator(
        iterators.SerialIterator(
            test.to_device(device), args.batchsize, repeat=False, shuffle=False
        ),
        model,
        device=device,
        eval_func=loss,
    )
    trainer.extend(evaluator)
    if shift:
        trainer.extend(shift, trigger=period)
    if is_plain:
        trainer.extend(extensions.observe_lr())
    else:
        noise_until = args.epoch - args.fine_tune if args.fine_tune else None
        growth = kl_epochs(args, len(train))
        trainer.extend(
            extensions.KLWarmUp(model, *growth, value=args.kl_coef, stop=noise_until)
        )
        if args.fine_tune:
            trainer.extend(extensions.FreezeNoise(model, noise_until))
        if args.mask_from >= 0:
            trainer.extend(extensions.MaskFrom(model, args.mask_from))
    frequency = args.epoch if args.frequency < 0 else args.frequency
    points = [*range(frequency, args.epoch, frequency), args.epoch]
    trainer.extend(
        extensions.snapshot(), trigger=ManualScheduleTrigger(points, "epoch")
    )
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.PrintReport(DENSE_COLUMNS if is_plain else COLUMNS))
    trainer.extend(extensions.ProgressBar())
    loss_name = "loss" if is_plain else "class"
    trainer.extend(
        extensions.PlotReport(
            [f"main/{loss_name}", f"validation/main/{loss_name}"],
            "epoch",
            file_name="loss.png",
            title="class loss, without the KL term",
            y_label="cross-entropy",
        )
    )
    if source and continues(source, args):
        serializers.load_npz(args.resume, trainer)
        if changed_options(source, settings):
            print(changed_options(source, settings), file=sys.stderr)
        if updater.epoch >= args.epoch:
            print(
                f"{args.resume}: {updater.epoch} of {args.epoch} epochs are done: "
                "nothing is left to train",
                file=sys.stderr,
            )
    if args.resume_opt:
        take_optimizer_state(args.resume_opt, optimizer, model)
    trainer.run()

    if is_plain:
        serializers.save_npz(Path(args.out) / "model.npz", model)
        accuracy = evaluator()["validation/main/accuracy"]
        print(f"test error: {100 * (1 - accuracy):.2f} %")
    else:
        model.to_cpu()
        print()
        print(inspection.summarize(model, *test.arrays, args.out, settings=settings))


if __name__ == "__main__":
    try:
        main()
    except (serializers.FileFormatError, FileNotFoundError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
