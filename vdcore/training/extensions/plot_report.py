"""The log as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdcore.files import open_atomically
from vdcore.training.extension import Extension
from vdcore.training.extensions.log_report import LogReport
from vdcore.training.extensions.print_report import find_log_report

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer


class PlotReport(Extension):
    """Draws entries of the log as curves, and saves them as a PNG file.

    The file is drawn again whenever the trigger fires, and at the end.

    Parameters
    ----------
    y_keys : str or sequence of str
        Keys of the log, a curve each. A curve has a point for each entry with the key.
    x_key : str
        For example ``"iteration"`` or ``"epoch"``.
    trigger
        When to draw. Drawing takes a tenth of a second or two.
    file_name : str
        In the trainer's folder.
    marker : str or None
        Matplotlib's name of the mark at each point.
    grid : bool
        Draw a grid.
    log_report : str
        Name of the :class:`LogReport` that is drawn. (Chainer averages for each plot
        anew; here table, log and plot show the same numbers.)
    title : str
        Above the curves.
    y_label : str, optional
        Default the last parts of the keys: ``"loss"`` for ``"main/loss"``.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """

    main_rank_only = True

    def __init__(
        self,
        y_keys: str | Sequence[str],
        x_key: str = "iteration",
        trigger: Any = (1, "epoch"),
        file_name: str = "plot.png",
        marker: str | None = "x",
        grid: bool = True,
        log_report: str = "LogReport",
        title: str = "",
        y_label: str | None = None,
    ) -> None:
        try:
            import matplotlib  # noqa: F401  before training, not after its first epoch
        except ImportError as error:
            message = (
                "PlotReport: matplotlib is not installed; "
                'run `pip install "vdcore[plot]"`'
            )
            raise ImportError(message) from error
        self.trigger = trigger
        self._y_keys = [y_keys] if isinstance(y_keys, str) else list(y_keys)
        self._x_key = x_key
        self._file_name = file_name
        self._marker = marker
        self._grid = grid
        self._log_report = log_report
        self._title = title
        last_parts = dict.fromkeys(key.rpartition("/")[2] for key in self._y_keys)
        self._y_label = ", ".join(last_parts) if y_label is None else y_label
        self._source: LogReport | None = None
        self._path: Path | None = None
        self._drawn = 0

    def initialize(self, trainer: Trainer) -> None:
        """Find the log."""
        self._source = find_log_report(trainer, self._log_report)
        self._path = trainer.out / self._file_name

    def __call__(self, trainer: Trainer) -> None:
        """Draw the log."""
        self._draw()

    def finalize(self) -> None:
        """Draw the log, if it has grown since the last time."""
        self._draw()

    def _draw(self) -> None:
        if self._source is None or len(self._source.log) == self._drawn:
            return
        from matplotlib.figure import Figure  # without pyplot there is no global state
        from matplotlib.ticker import MaxNLocator

        figure = Figure(layout="constrained")
        axes = figure.subplots()
        for key in self._y_keys:
            entries = [e for e in self._source.log if key in e and self._x_key in e]
            x = [entry[self._x_key] for entry in entries]
            y = [entry[key] for entry in entries]
            axes.plot(x, y, marker=self._marker, label=key)
        axes.set_title(self._title)
        axes.set_xlabel(self._x_key)
        axes.set_ylabel(self._y_label)
        if self._x_key in ("epoch", "iteration"):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(self._grid)
        figure.legend(loc="outside lower center", ncols=2)
        assert self._path is not None
        with open_atomically(self._path) as file:
            figure.savefig(file, format="png")
        self._drawn = len(self._source.log)
