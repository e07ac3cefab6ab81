"""What the files of --resume and --resume-opt are, and what is taken from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from vdcore import datasets, serializers
from vdcore.serializers import FileFormatError
from vdcore.training import Extension

MODEL = "updater/model:main/"
OPTIMIZER = "updater/optimizer:main/"
# Options that a run may be continued with others of.
FREE = set("autoload frequency gpu graph out profile resume resume_opt".split())


class Settings(Extension):
    """The options of a run, kept in its snapshots."""

    trigger = None  # there is nothing to do but to be saved

    def __init__(self, values):
        self.values = values
        self.saved: dict[str, Any] = {}

    def serialize(self, serializer):
        self.saved = serializer("values", self.values)


class Source(NamedTuple):
    """A snapshot or a model file of this script."""

    path: str
    prefix: str  # of the model's entries
    is_variational: bool
    channels: int  # of the first layer
    classes: int
    settings: dict[str, Any]  # of the run that wrote the snapshot

    @property
    def is_snapshot(self):
        return self.prefix == MODEL


def read_source(path):
    """Find out what the file of --resume is."""
    shapes = {name: array.shape for name, array in serializers.read_npz(path).items()}
    prefix = MODEL if any(name.startswith(MODEL) for name in shapes) else ""
    first, last = prefix + "block1_1/conv/W", prefix + "fc2/W"
    if not {first, last} <= shapes.keys():
        message = (
            f"--resume {path}: must be a snapshot or a model.npz of train_cifar.py, "
            f"and has no entry {last!r}"
        )
        raise FileFormatError(message)
    settings = Settings({})
    if prefix:
        serializers.load_npz(path, settings, prefix="extensions/Settings/")
    return Source(
        path,
        prefix,
        prefix + "fc2/log_sigma2" in shapes,
        shapes[first][0],
        shapes[last][0],
        settings.saved,
    )


def choose_mode(args, source):
    """One of "pretrain", "pretrained" and "scratch"."""
    if args.pretrain and source and source.is_variational:
        message = (
            f"--resume {source.path}: --pretrain trains the plain network, and this is "
            "of a variational one; leave --pretrain out to continue that"
        )
        raise FileFormatError(message)
    if args.pretrain:
        return "pretrain"
    if source is None:
        return "scratch"
    return source.settings["mode"] if continues(source, args) else "pretrained"


def continues(source, args):
    """Whether the file is a snapshot of the same kind of run."""
    return source.is_snapshot and source.is_variational != args.pretrain


def check_sizes(source, model, args):
    classes, channels = model.fc2.out_size, model.block1_1.conv.out_channels
    if source.classes != classes:
        message = (
            f"--resume {source.path}: is of {source.classes} classes, and --dataset "
            f"{args.dataset} has {classes}; give the --dataset it was trained on"
        )
        raise FileFormatError(message)
    if source.channels != channels:
        message = (
            f"--resume {source.path}: has {source.channels} channels in the first "
            f"layer, and with --width {args.width:g} there are {channels}; give the "
            "--width of the run that wrote it"
        )
        raise FileFormatError(message)


def changed_options(source, settings):
    """A line on options that are not those of the run to be continued; or nothing."""
    changed = [
        f"--{name.replace('_', '-')} {source.settings.get(name)}, now {value}"
        for name, value in settings.items()
        if name not in FREE and value != source.settings.get(name)
    ]
    if not changed:
        return ""
    return f"warning: {source.path} was written with {'; '.join(changed)}"


def take_model(source, model, plain):
    """Start a model from a file; returns a line on what was taken.

    `plain` is the model without what variational dropout adds to it.
    """
    path, prefix = source.path, source.prefix
    if source.is_variational or type(model) is type(plain):
        serializers.load_npz(path, model, prefix=prefix)
        kind = "variational" if source.is_variational else "plain"
        return f"{path}: all parameters of a {kind} model taken"
    # The file must have all of the plain model, and nothing else; what it cannot have,
    # the log variances, is left as it is.
    serializers.load_npz(path, plain, prefix=prefix)
    serializers.load_npz(path, model, prefix=prefix, strict=False)
    return (
        f"{path}: weights, batch normalisation and its statistics of a plain model "
        "taken; log sigma2 begins anew"
    )


def take_optimizer_state(path, optimizer, model):
    """Give an optimizer the moments and the count of steps of a snapshot."""
    found = serializers.read_npz(path)
    if not any(name.startswith(OPTIMIZER) for name in found):
        message = f"--resume-opt {path}: must be a snapshot, and has no optimizer in it"
        raise FileFormatError(message)
    if any(OPTIMIZER + name not in found for name in optimizer.hyperparameters):
        message = (
            f"--resume-opt {path}: must be of a run with {type(optimizer).__name__}, "
            "which trains in this mode, and is of one with another optimizer"
        )
        raise FileFormatError(message)
    # Loaded beside, for a snapshot's step size, generators and masks are not wanted.
    other = type(optimizer)().setup(model.copy())
    serializers.load_npz(path, other, prefix=OPTIMIZER)
    optimizer.t, optimizer.state = other.t, other.state


def standardization_of(args, images):
    """Mean and deviation of the training images, or those beside the file resumed."""
    if args.resume:
        path = Path(args.resume).parent / "standardization.npz"
        if path.exists():
            found = datasets.Standardization()
            serializers.load_npz(path, found)
            return found
    axes = 0 if args.standardize == "pixel" else (0, 2, 3)
    return datasets.Standardization.fit(images, axes)
