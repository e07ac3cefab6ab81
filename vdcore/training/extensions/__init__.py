"""Extensions of the trainer: evaluation, logs, plots, snapshots and schedules."""

from __future__ import annotations

from vdcore.training.extensions.evaluator import Evaluator
from vdcore.training.extensions.exponential_shift import ExponentialShift
from vdcore.training.extensions.linear_shift import LinearShift
from vdcore.training.extensions.log_report import LogReport
from vdcore.training.extensions.observe import observe_lr, observe_value
from vdcore.training.extensions.perplexity import compute_perplexity
from vdcore.training.extensions.plot_report import PlotReport
from vdcore.training.extensions.print_report import PrintReport
from vdcore.training.extensions.progress_bar import ProgressBar
from vdcore.training.extensions.snapshot import (
    latest_snapshot,
    snapshot,
    snapshot_object,
)
from vdcore.training.extensions.variational import FreezeNoise, KLWarmUp, MaskFrom

__all__ = [
    "Evaluator",
    "ExponentialShift",
    "FreezeNoise",
    "KLWarmUp",
    "LinearShift",
    "LogReport",
    "MaskFrom",
    "PlotReport",
    "PrintReport",
    "ProgressBar",
    "compute_perplexity",
    "latest_snapshot",
    "observe_lr",
    "observe_value",
    "snapshot",
    "snapshot_object",
]
