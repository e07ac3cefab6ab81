"""The training loop."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from vdcore.arrays import using_device
from vdcore.reporter import Reporter
from vdcore.serialization import Serializer
from vdcore.training.extension import Extension, FunctionExtension
from vdcore.training.triggers import Trigger, get_stop_trigger, get_trigger
from vdcore.training.updater import StandardUpdater


class _Entry(NamedTuple):
    name: str
    extension: Extension
    trigger: Trigger
    priority: int
    call_before_training: bool


class Trainer:
    """Runs an updater until a trigger fires, and extensions after each iteration.

    Parameters
    ----------
    updater : StandardUpdater
    stop_trigger : None, tuple or callable
        When to stop: ``(20, "epoch")`` once 20 epochs are done, also for a run resumed
        beyond them. None: never.
    out : path-like
        Folder for what extensions write; made by :meth:`run`.
    extensions : iterable, optional
        Added by :meth:`extend`.

    Attributes
    ----------
    observation : dict
        What was reported in the last iteration, by full name (``"main/loss"``).
    reporter : Reporter
        Knows the models by the names of their optimizers.
    is_main_rank : bool
        False on all but one of the processes that share a training: extensions that
        are for the main rank only are left out there.

    Raises
    ------
    NotADirectoryError
        If `out` is a file.
    """

    def __init__(
        self,
        updater: StandardUpdater,
        stop_trigger: Any = None,
        out: Any = "result",
        extensions: Any = (),
    ) -> None:
        self.updater = updater
        self.stop_trigger = get_stop_trigger(stop_trigger)
        self.out = Path(out)
        if self.out.exists() and not self.out.is_dir():
            message = (
                f"Trainer: `out` must be a folder or a new path, and `{self.out}` is a "
                "file; choose another"
            )
            raise NotADirectoryError(message)
        self.observation: dict[str, Any] = {}
        self.reporter = Reporter()
        self._entries: dict[str, _Entry] = {}
        self._elapsed_before = 0.0
        self._started_at: float | None = None
        self._done = False
        self.is_main_rank = True
        updater.connect_trainer(self)
        for extension in extensions:
            self.extend(extension)

    @property
    def elapsed_time(self) -> float:
        """Seconds of training, those before a resume included."""
        if self._started_at is None:
            return self._elapsed_before
        return self._elapsed_before + time.perf_counter() - self._started_at

    def extend(
        self,
        extension: Any,
        name: str | None = None,
        trigger: Any = None,
        priority: int | None = None,
        *,
        call_before_training: bool = False,
    ) -> None:
        """Add an extension.

        Parameters
        ----------
        extension : Extension or callable
            Called with the trainer.
        name : str, optional
            Default the extension's own, with ``_1``, ``_2``, ... appended if it is
            taken.
        trigger, priority : optional
            Default the extension's own; see :class:`Extension`.
        call_before_training : bool
            Call it before the first iteration too.

        Raises
        ------
        ValueError
            If `name` is taken.
        """
        if not callable(extension):
            message = (
                "extend: `extension` must be an Extension or a callable, "
                f"got {type(extension).__name__}"
            )
            raise TypeError(message)
        if not isinstance(extension, Extension):
            extension = FunctionExtension(extension)
        if name in self._entries:
            message = f"extend: there is an extension {name!r} already; choose a `name`"
            raise ValueError(message)
        name = name or self._free_name(extension.name or extension.default_name)
        extension.name = name
        self._entries[name] = _Entry(
            name,
            extension,
            get_trigger(extension.trigger if trigger is None else trigger),
            extension.priority if priority is None else priority,
            call_before_training,
        )

    def get_extension(self, name: str) -> Extension:
        """Return the extension of a name.

        Raises
        ------
        ValueError
            If there is none.
        """
        if name not in self._entries:
            known = ", ".join(self._entries) or "none"
            message = (
                f"get_extension: there is no extension {name!r}, there are {known}; "
                "add it by Trainer.extend first"
            )
            raise ValueError(message)
        return self._entries[name].extension

    def run(self, show_loop_exception_msg: bool = True) -> None:
        """Train until the stop trigger fires.

        Extensions are finalized however the loop ends; Ctrl-C and errors propagate.

        Parameters
        ----------
        show_loop_exception_msg : bool
            Announce an error on stderr before extensions are finalized.

        Raises
        ------
        RuntimeError
            If it has run before.
        """
        if self._done:
            message = (
                "run: this trainer has run already; make a new one and load a snapshot "
                "into it to continue"
            )
            raise RuntimeError(message)
        self._done = True
        self.out.mkdir(parents=True, exist_ok=True)
        entries = [
            entry
            for entry in self._entries.values()
            if self.is_main_rank or not entry.extension.main_rank_only
        ]
        entries.sort(key=lambda entry: entry.priority, reverse=True)
        self._started_at = time.perf_counter()
        with ExitStack() as finalizers:
            # Extensions work with arrays, too, on the GPU of the model.
            finalizers.enter_context(using_device(self.updater.device))
            finalizers.callback(self._stop_clock)
            for entry in reversed(entries):
                finalizers.callback(entry.extension.finalize)
            try:
                self._loop(entries)
            except Exception as error:
                if show_loop_exception_msg:
                    print(
                        f"Exception in main training loop: {error}\n"
                        "Extensions are finalized before it is raised again.",
                        file=sys.stderr,
                    )
                raise

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the whole state of the training: a snapshot."""
        self.updater.serialize(serializer["updater"])
        if hasattr(self.stop_trigger, "serialize"):
            self.stop_trigger.serialize(serializer["stop_trigger"])
        for entry in self._entries.values():
            entry.extension.serialize(serializer["extensions"][entry.name])
            if hasattr(entry.trigger, "serialize"):
                entry.trigger.serialize(serializer["extension_triggers"][entry.name])
        elapsed_time = serializer("elapsed_time", self.elapsed_time)
        if not serializer.is_writer:
            self._elapsed_before = elapsed_time

    def _loop(self, entries: list[_Entry]) -> None:
        for entry in entries:
            entry.extension.initialize(self)
        with self.reporter.scope(self.observation):
            for entry in entries:
                if entry.call_before_training:
                    entry.extension(self)
        while not self.stop_trigger(self):
            self.observation = {}
            with self.reporter.scope(self.observation):
                self.updater.update()
                for entry in entries:
                    if entry.trigger(self):
                        entry.extension(self)

    def _stop_clock(self) -> None:
        self._elapsed_before, self._started_at = self.elapsed_time, None

    def _free_name(self, name: str) -> str:
        taken, count = name, 0
        while taken in self._entries:
            count += 1
            taken = f"{name}_{count}"
        return taken
