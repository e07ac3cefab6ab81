"""A progress bar for the whole training."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

from vdcore.training.extension import Extension
from vdcore.training.triggers import elapsed

if TYPE_CHECKING:
    from vdcore.training.trainer import Trainer

FORMAT = "{desc} [{bar:40}] {percentage:3.0f}%  {elapsed} < {remaining}"
FORMAT_WITHOUT_END = "{desc}  {elapsed}"


class ProgressBar(Extension):
    """Shows how far training has come, and how long it will take, by tqdm.

    Lines of :class:`PrintReport` appear above the bar.

    Parameters
    ----------
    training_length : tuple, optional
        For example ``(20, "epoch")``. Default: the trainer's stop trigger, if that has
        a length; otherwise time is shown without an end.
    out : file, optional
        Default standard error, so that a table on standard output can be piped.
    show : bool, optional
        Default: only if `out` is a terminal, since a log file is no place for a bar.

    Raises
    ------
    ImportError
        If tqdm is not installed.
    """

    main_rank_only = True

    def __init__(
        self,
        training_length: tuple[float, str] | None = None,
        out: TextIO | None = None,
        show: bool | None = None,
    ) -> None:
        try:
            import tqdm  # noqa: F401  before training, not at its start
        except ImportError as error:
            message = (
                "ProgressBar: tqdm is not installed; "
                'run `pip install "vdcore[examples]"`'
            )
            raise ImportError(message) from error
        self._training_length = training_length
        self._out = out
        self._show = show
        self._bar: Any = None
        self._unit = "epoch"

    def initialize(self, trainer: Trainer) -> None:
        """Draw the bar where a resumed run stands."""
        from tqdm import tqdm

        stop = trainer.stop_trigger
        length = self._training_length
        if length is None and hasattr(stop, "time") and hasattr(stop, "unit"):
            length = (stop.time, stop.unit)
        total, self._unit = length or (None, "epoch")
        self._bar = tqdm(
            total=total,
            initial=elapsed(trainer.updater, self._unit),
            desc=self._position(trainer),
            file=sys.stderr if self._out is None else self._out,
            disable=None if self._show is None else not self._show,
            bar_format=FORMAT if length else FORMAT_WITHOUT_END,
            leave=False,
        )

    def __call__(self, trainer: Trainer) -> None:
        """Move the bar; tqdm draws it ten times a second at most."""
        self._bar.set_description_str(self._position(trainer), refresh=False)
        self._bar.update(elapsed(trainer.updater, self._unit) - self._bar.n)

    def finalize(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _position(self, trainer: Trainer) -> str:
        updater = trainer.updater
        return f"epoch {updater.epoch_detail:.2f}, iteration {updater.iteration}"
