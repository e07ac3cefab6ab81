"""Train an LSTM on the Penn Treebank by sparse variational dropout, and prune it.

The recipe of Lobacheva et al. (2017), from scratch; or that of the Chainer original, in
two stages:

    export VDCORE_DATASET_ROOT=/data
    python examples/ptb/train_ptb.py --recipe lobacheva -o result/ptb/lobacheva

    python examples/ptb/train_ptb.py --pretrain -o result/ptb/dense
    python examples/ptb/train_ptb.py -r result/ptb/dense/model.npz -o result/ptb/pruned

Writes log, snapshots, the trained model, that of the epoch with the best validation,
the vocabulary and plots to the output folder, and ends with perplexities and sizes;
sample.py lets the model write. `-r` with a snapshot of a run continues it exactly where
it was.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from net import NETWORKS
from options import parse_args, recipe_of

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
from vdcore.files import write_text_atomically
from vdcore.training import extensions
from vdcore.training.extensions.perplexity import perplexity
from vdcore.training.triggers import ManualScheduleTrigger, MinValueTrigger

DATA = {
    "words": (datasets.get_ptb_words, datasets.get_ptb_words_vocabulary),
    "chars": (datasets.get_ptb_chars, datasets.get_ptb_chars_vocabulary),
}
COLUMNS = (
    "epoch iteration perplexity val_perplexity main/class main/kl main/kl_coef "
    "main/mean_p main/sparsity main/W/Wnz main/grad_norm main/clipped elapsed_time"
).split()
DENSE_COLUMNS = (
    "epoch iteration perplexity val_perplexity main/loss main/grad_norm main/clipped "
    "lr elapsed_time"
).split()
SNAPSHOT = "updater/model:main/"  # what the entries of its model begin with
EVALUATION_LENGTH = 100  # tokens of a window; states are carried, so it does not matter
DECAY_AFTER, DECAY = 6, 1.2  # epochs, and what the step size of SGD is divided by


def load_data(args):
    """Three texts and the vocabulary they have in common."""
    get_texts, get_vocabulary = DATA[args.data]
    train, valid, test = get_texts()
    if args.test:
        window = args.batchsize * args.bproplen
        args.limit = 10 * window + 1
        valid, test = valid[: 2 * window + 1], test[: 2 * window + 1]
    return train[: args.limit], valid, test, get_vocabulary()


def build_model(args, n_vocab, num_tokens):
    network = NETWORKS[args.recipe]
    if args.pretrain:
        return network.plain(n_vocab, args.units, dropout=args.dropout)
    return network.variational(
        n_vocab,
        args.units,
        num_examples=num_tokens,
        warm_up=0,  # see KLWarmUp
        variational={
            "noise": args.noise,
            "multipliers": tuple(args.multipliers),
            "kl": args.kl,
            "loga_threshold": args.threshold,
            "initial_log_sigma2": args.log_sigma2,
        },
    )


def build_optimizer(args, model):
    if args.pretrain and args.recipe == "soskek":
        optimizer = optimizers.SGD(args.lr).setup(model)
        optimizer.add_hook(optimizers.WeightDecay(5e-4))
    else:
        optimizer = optimizers.Adam(args.lr).setup(model)
    optimizer.add_hook(optimizers.GradientClipping(recipe_of(args).clip))
    return optimizer


def plain_loss(model):
    def loss(x, t):
        labels = vdcore.arrays.array_namespace(t).reshape(t, (-1,))
        value = functions.softmax_cross_entropy(model(x), labels)
        vdcore.report({"loss": vdcore.arrays.untraced(value)}, model)
        return value

    return loss


def class_loss(model):
    """The loss of a variational model without its KL term, for evaluations."""
    return lambda x, t: model.calc_loss(x, t, add_kl=False, calc_stats=False)


def is_continued(args):
    """Take the file of --resume for a snapshot of the same kind of run.

    False: it is a plain model to start from.
    """
    names = serializers.read_npz(args.resume)
    is_snapshot = any(name.startswith(SNAPSHOT) for name in names)
    is_plain = not any(name.endswith("log_sigma2") for name in names)
    if is_plain == args.pretrain and is_snapshot:
        return True
    if is_plain and not is_snapshot and not args.pretrain:
        return False
    kind = f"a {'plain' if is_plain else 'variational'} "
    kind += "network's snapshot" if is_snapshot else "model"
    expected = f"a snapshot of a run with{'' if args.pretrain else 'out'} --pretrain"
    if not args.pretrain:
        expected += ", or model.npz of one with it"
    message = f"--resume {args.resume}: must be {expected}, and is {kind}"
    raise serializers.FileFormatError(message)


def take_weights(args, model, plain):
    """Start a variational model from the file of a plain one, all of it."""
    serializers.load_npz(args.resume, plain)
    serializers.load_npz(args.resume, model, strict=False)
    print(f"{args.resume}: weights of a plain model taken; log sigma2 begins anew")


def build_trainer(args, model, texts):
    device = "cpu" if args.gpu < 0 else args.gpu
    model.to_device(device)
    train, valid, _ = (vdcore.arrays.to_device(text, device) for text in texts)
    optimizer = build_optimizer(args, model)
    updater = training.BPTTUpdater(
        iterators.ParallelSequentialIterator(
            train, args.batchsize, length=args.bproplen
        ),
        optimizer,
        device=device,
        loss_func=plain_loss(model) if args.pretrain else model.calc_loss,
        graph=args.graph,
    )
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    trainer.extend(build_evaluator(args, model, valid))
    if not args.pretrain:
        end = 1 / args.warm_up if args.warm_up else 0
        trainer.extend(
            extensions.KLWarmUp(model, 0, end, unit="iteration", value=args.kl_coef)
        )
        if args.mask_from >= 0:
            trainer.extend(extensions.MaskFrom(model, args.mask_from))
    elif isinstance(optimizer, optimizers.SGD):
        points = range(DECAY_AFTER, max(args.epoch, DECAY_AFTER + 1))
        trainer.extend(
            extensions.ExponentialShift("lr", 1 / DECAY),
            trigger=ManualScheduleTrigger(points, "epoch"),
        )
    if args.pretrain:
        trainer.extend(extensions.observe_lr())
    # Before the snapshot, which is to know which epoch was the best.
    loss = "loss" if args.pretrain else "class"
    trainer.extend(
        extensions.snapshot_object(model, "best_model.npz"),
        trigger=MinValueTrigger(f"validation/main/{loss}"),
    )
    frequency = args.epoch if args.frequency < 0 else args.frequency
    points = [*range(frequency, args.epoch, frequency), args.epoch]
    trainer.extend(
        extensions.snapshot(), trigger=ManualScheduleTrigger(points, "epoch")
    )
    trainer.extend(extensions.LogReport(postprocess=extensions.compute_perplexity))
    trainer.extend(extensions.PrintReport(DENSE_COLUMNS if args.pretrain else COLUMNS))
    trainer.extend(extensions.ProgressBar())
    trainer.extend(
        extensions.PlotReport(
            ["perplexity", "val_perplexity"], "epoch", file_name="perplexity.png"
        )
    )
    return trainer


def build_evaluator(args, model, text):
    length = max(args.bproplen, EVALUATION_LENGTH)
    return extensions.Evaluator(
        iterators.ParallelSequentialIterator(text, args.batchsize, False, length),
        model,
        device="cpu" if args.gpu < 0 else args.gpu,
        eval_func=plain_loss(model) if args.pretrain else class_loss(model),
    )


def test_perplexity(args, model, test):
    evaluator = build_evaluator(
        args, model, vdcore.arrays.to_device(test, "cpu" if args.gpu < 0 else args.gpu)
    )
    evaluator.name = None
    means = evaluator()
    return perplexity(means["main/loss" if args.pretrain else "main/class"])


def write_vocabulary(args, vocabulary):
    """What sample.py needs besides the model's weights."""
    names = "recipe", "data", "units", "multipliers", "threshold"
    settings = {name: getattr(args, name) for name in names}
    settings |= {"tokens": list(vocabulary)}
    write_text_atomically(
        Path(args.out) / "vocabulary.json", json.dumps(settings, indent=0)
    )


def report(args, model, test):
    """Evaluate and write what the training has led to; returns lines to print."""
    out = Path(args.out)
    figures = {"test_perplexity": test_perplexity(args, model, test)}
    figures["test_bits"] = math.log2(figures["test_perplexity"])
    serializers.save_npz(out / "model.npz", model)
    if not args.pretrain:
        model.to_cpu()
        size = model.size()
        figures["weight_ratio"] = size.weight_ratio
        figures["weights_kept"] = {x.name: x.weights_kept for x in size.layers}
        inspection.plot_log_alpha(model, out / "log_alpha.png")
        sparse = model.to_cpu_sparse()
        sparse.save(out / "model_sparse.npz")
        figures["weight_ratio_left"] = sparse.weight_ratio
        figures["groups"] = {f"{x.name}/{x.kind}": x.kept for x in sparse.groups}
        model.to_device("cpu" if args.gpu < 0 else args.gpu)
    pruned = "" if args.pretrain else ", pruned"
    lines = [f"test perplexity{pruned}: {figures['test_perplexity']:.2f}"]
    if (out / "best_model.npz").exists():  # not if it was best before, in other folders
        serializers.load_npz(out / "best_model.npz", model)
        figures["best_test_perplexity"] = test_perplexity(args, model, test)
        lines[0] += (
            f"; of the epoch with the best validation: "
            f"{figures['best_test_perplexity']:.2f}"
        )
    if args.data == "chars":
        lines[0] += f"; {figures['test_bits']:.4f} bits a character"
    if not args.pretrain:
        lines += ["", str(size), "", "sparse model:", sparse.summary()]
    write_text_atomically(out / "summary.txt", "\n".join(lines) + "\n")
    settings = figures | {"settings": vars(args)}
    write_text_atomically(out / "summary.json", json.dumps(settings, indent=1))
    names = sorted(path.name for path in out.iterdir() if path.suffix)
    return [*lines, "", f"files in {out}: {', '.join(names)}"]


def main():
    args = parse_args(__doc__.split("\n")[0])
    continued = bool(args.resume) and is_continued(args)
    vdcore.seed(args.seed)
    *texts, vocabulary = load_data(args)
    model = build_model(args, len(vocabulary), len(texts[0]))
    if args.resume and not continued:
        plain = NETWORKS[args.recipe].plain(len(vocabulary), args.units)
        take_weights(args, model, plain)
    weights = sum(p.array.size for path, p in model.namedparams() if path[-2:] == "/W")
    trainer = build_trainer(args, model, texts)
    optimizer = trainer.updater.get_optimizer()
    print(
        f"Penn Treebank: {len(texts[0]):,} {args.data} to train on, "
        f"{len(vocabulary):,} different; {type(model).__name__} with {weights:,} "
        f"weights, {type(optimizer).__name__} {args.lr:g}"
    )
    if continued:
        serializers.load_npz(args.resume, trainer)
        if trainer.updater.epoch >= args.epoch:
            print(
                f"{args.resume}: {trainer.updater.epoch} of {args.epoch} epochs are "
                "done: nothing is left to train",
                file=sys.stderr,
            )
    write_vocabulary(args, vocabulary)
    trainer.run()
    print()
    print("\n".join(report(args, model, texts[2])))


if __name__ == "__main__":
    try:
        main()
    except (serializers.FileFormatError, FileNotFoundError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
