"""Snapshots: files from which training goes on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdcore.serialization import DictionarySerializer, Serializer
from vdcore.serializers import save_npz
from vdcore.training.extension import Extension

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class Snapshot(Extension):
    """Made by :func:`snapshot` and :func:`snapshot_object`."""

    default_name = "snapshot"
    priority = -100  # after all others, whose state it is to hold

    def __init__(
        self,
        target: Any,
        savefun: Callable[[Any, Any], None],
        filename: str,
        trigger: Any,
        keep: int | None,
    ) -> None:
        if keep is not None and keep < 1:
            message = f"snapshot: `keep` must be at least 1, or None, got {keep!r}"
            raise ValueError(message)
        self.trigger = trigger
        self._target = target
        self._savefun = savefun
        self._filename = filename
        self._keep = keep
        self._written: list[str] = []

    def __call__(self, trainer: Trainer) -> None:
        """Write a file, and delete those that are no longer to be kept.

        Rank 0 does. Where others share the training, they give it what they have.
        """
        if not trainer.is_main_rank:
            if self._target is None:
                trainer.serialize(DictionarySerializer())
            return
        name = self._filename.format(trainer)
        self._written = [other for other in self._written if other != name] + [name]
        target = trainer if self._target is None else self._target
        self._savefun(trainer.out / name, target)
        if self._keep is not None:
            for old in self._written[: -self._keep]:
                (trainer.out / old).unlink(missing_ok=True)
            self._written = self._written[-self._keep :]

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the names of the files that are kept."""
        self._written = serializer("written", self._written)


def snapshot(
    savefun: Callable[[Any, Any], None] = save_npz,
    filename: str = "snapshot_iter_{.updater.iteration}",
    trigger: Any = (1, "epoch"),
    keep: int | None = None,
) -> Snapshot:
    """Extension that saves the whole trainer.

    To continue, build the same trainer and ``load_npz("result/snapshot_iter_600",
    trainer)`` before ``trainer.run()``: on a CPU the run goes on bit for bit. The last
    one that a run left is found by :func:`latest_snapshot`.

    Parameters
    ----------
    savefun : callable
        ``savefun(path, trainer)``; the default writes a file whole or not at all, so
        that a run killed meanwhile has the snapshot before.
    filename : str
        In the trainer's folder; formatted with the trainer.
    trigger
        When to save.
    keep : int, optional
        Number of files to keep; older ones of this run are deleted. Default: all.
    """
    return Snapshot(None, savefun, filename, trigger, keep)


def latest_snapshot(
    folder: str | os.PathLike[str], prefix: str = "snapshot_iter_"
) -> Path | None:
    """Find the snapshot of the highest iteration in a trainer's folder.

    Parameters
    ----------
    folder : path-like
        Need not be there yet.
    prefix : str
        Of the file names; what follows is the iteration.

    Returns
    -------
    pathlib.Path or None
        None if there is no snapshot.
    """
    found = {
        int(path.name.removeprefix(prefix)): path
        for path in Path(folder).glob(f"{prefix}*")
        if re.fullmatch(r"\d+", path.name.removeprefix(prefix))
    }
    return found[max(found)] if found else None


def snapshot_object(
    target: Any,
    filename: str,
    savefun: Callable[[Any, Any], None] = save_npz,
    trigger: Any = (1, "epoch"),
    keep: int | None = None,
) -> Snapshot:
    """Extension that saves one object, for example the model.

    Parameters
    ----------
    target
        Anything that `savefun` takes.
    filename, savefun, trigger, keep
        As of :func:`snapshot`.
    """
    return Snapshot(target, savefun, filename, trigger, keep)
