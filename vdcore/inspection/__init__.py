"""Look at a trained model: errors, size, speed, pictures of its weights."""

from vdcore.inspection.dense import DenseModel, error_rate
from vdcore.inspection.gpu_profile import profile_gpu
from vdcore.inspection.latency import Latency, compare_latency
from vdcore.inspection.plots import plot_log_alpha, plot_masks
from vdcore.inspection.summary import Summary, summarize

__all__ = [
    "DenseModel",
    "Latency",
    "Summary",
    "compare_latency",
    "error_rate",
    "plot_log_alpha",
    "plot_masks",
    "profile_gpu",
    "summarize",
]
