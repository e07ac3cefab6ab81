"""The log: averages of observations as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vdcore.files import write_text_atomically
from vdcore.reporter import DictSummary
from vdcore.serialization import Serializer
from vdcore.training.extension import Extension
from vdcore.training.triggers import get_trigger

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class LogReport(Extension):
    """Averages observations over an interval and appends them to a log file.

    Parameters
    ----------
    keys : iterable of str, optional
        Values to log; default all.
    trigger
        End of an interval. The extension itself is called at each iteration.
    postprocess : callable, optional
        Called with each new entry, a dictionary, to change it.
    log_name : str or None
        File in the trainer's folder, a JSON list of dictionaries, rewritten whole;
        None for no file. Averages that are no finite numbers stand there as ``NaN``
        and ``Infinity``, as Python's ``json`` writes and reads them.

    Attributes
    ----------
    log : list of dict
        One entry an interval: the averages, `epoch`, `iteration` and `elapsed_time`
        in seconds.
    """

    main_rank_only = True

    def __init__(
        self,
        keys: Iterable[str] | None = None,
        trigger: Any = (1, "epoch"),
        postprocess: Callable[[dict[str, Any]], None] | None = None,
        log_name: str | None = "log",
    ) -> None:
        self.log: list[dict[str, Any]] = []
        self._keys = None if keys is None else set(keys)
        self._interval = get_trigger(trigger)
        self._postprocess = postprocess
        self._log_name = log_name
        self._summary = DictSummary()

    def __call__(self, trainer: Trainer) -> None:
        """Add the observation; write an entry if the interval ends here."""
        keys = self._keys
        self._summary.add(
            {
                key: value
                for key, value in trainer.observation.items()
                if keys is None or key in keys
            }
        )
        if not self._interval(trainer):
            return
        entry: dict[str, Any] = self._summary.compute_mean()
        self._summary = DictSummary()
        entry["epoch"] = trainer.updater.epoch
        entry["iteration"] = trainer.updater.iteration
        entry["elapsed_time"] = trainer.elapsed_time
        if self._postprocess:
            self._postprocess(entry)
        self.log.append(entry)
        if self._log_name is not None:
            text = json.dumps(self.log, indent=4)
            write_text_atomically(trainer.out / self._log_name, text)

    def serialize(self, serializer: Serializer) -> None:
        """Read or write the log and the running averages."""
        self.log = serializer("log", self.log)
        self._summary.serialize(serializer["summary"])
        if hasattr(self._interval, "serialize"):
            self._interval.serialize(serializer["trigger"])
