"""The log as a table on the terminal."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vdcore.training.extension import Extension
from vdcore.training.extensions.log_report import LogReport

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class PrintReport(Extension):
    """Prints new entries of the log, a line each, under a header.

    A resumed run prints the table from its beginning. When the run ends, a warning
    names the columns that no entry had.

    Parameters
    ----------
    entries : sequence of str
        Keys of the log, the columns. One that an entry does not have is left blank.
    log_report : str
        Name of the :class:`LogReport` that is printed.
    out : file, optional
        Default standard output.
    """

    main_rank_only = True

    def __init__(
        self,
        entries: Sequence[str],
        log_report: str = "LogReport",
        out: TextIO | None = None,
    ) -> None:
        self._entries = list(entries)
        self._widths = [max(10, len(entry)) for entry in entries]
        self._log_report = log_report
        self._out = out
        self._printed = 0
        self._seen: dict[str, None] = {}  # keys, in the order of the log

    def __call__(self, trainer: Trainer) -> None:
        """Print what the log has new."""
        log = find_log_report(trainer, self._log_report).log
        if log and not self._printed:
            self._print(self._line(self._entries, ""))
        for entry in log[self._printed :]:
            self._seen |= dict.fromkeys(entry)
            self._print(self._line([entry.get(key, "") for key in self._entries], "g"))
        self._printed = len(log)

    def finalize(self) -> None:
        """Warn of columns that stayed empty."""
        empty = [entry for entry in self._entries if entry not in self._seen]
        if self._printed and empty:
            message = (
                "PrintReport: `entries` must be keys of the log, got "
                f"{', '.join(map(repr, empty))}, which no entry has; "
                f"there are {', '.join(map(repr, self._seen))}"
            )
            warnings.warn(message, UserWarning, stacklevel=2)

    def _line(self, values: Sequence[Any], kind: str) -> str:
        cells = (
            f"{value:<{width}{'' if isinstance(value, str) else kind}}"
            for value, width in zip(values, self._widths, strict=True)
        )
        return "  ".join(cells).rstrip()

    def _print(self, line: str) -> None:
        out = sys.stdout if self._out is None else self._out
        tqdm = sys.modules.get("tqdm")
        if tqdm is None:
            print(line, file=out, flush=True)
        else:  # a progress bar may stand where the line goes
            tqdm.tqdm.write(line, file=out)
            out.flush()


def find_log_report(trainer: Trainer, name: str) -> LogReport:
    """Return the trainer's LogReport of a name."""
    extension = trainer.get_extension(name)
    if not isinstance(extension, LogReport):
        message = (
            f"get_extension: {name!r} must be a LogReport, "
            f"got a {type(extension).__name__}"
        )
        raise TypeError(message)
    return extension
