"""The final report on a trained classifier."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from vdcore.files import write_text_atomically
from vdcore.inspection.dense import DenseModel, error_rate
from vdcore.inspection.latency import Latency, compare_latency
from vdcore.inspection.plots import plot_log_alpha, plot_masks
from vdcore.serializers import save_npz
from vdcore.variational.counting import NetworkSize

if TYPE_CHECKING:
    from vdcore.links import VariationalDropoutChain

LEGEND = (
    "bits: width of a weight, given its posterior variance; "
    "W/Wnz: weights over weights kept"
)


@dataclass(frozen=True)
class Summary:
    """What is left of a classifier after pruning, and what that costs and saves.

    Attributes
    ----------
    dense_error, pruned_error : float
        Fraction of wrong answers of the mean weights, all of them and pruned.
    size : NetworkSize
    architecture : pair of str
        Channels of convolutions and inputs of affine layers, of all and of those left.
    latency : Latency
        Of the plain dense network and the sparse one.
    file_bytes : dict
        Size of each model file.
    """

    dense_error: float
    pruned_error: float
    size: NetworkSize
    architecture: tuple[str, str]
    latency: Latency
    file_bytes: dict[str, int]

    def __str__(self) -> str:
        files = ", ".join(f"{name} {n:,} bytes" for name, n in self.file_bytes.items())
        return "\n".join(
            [
                f"test error: {100 * self.dense_error:.2f} % with all weights, "
                f"{100 * self.pruned_error:.2f} % pruned",
                "",
                str(self.size),
                LEGEND,
                "architecture {}, left {}".format(*self.architecture),
                "",
                "time a call, plain dense NumPy network against the sparse one:",
                str(self.latency),
                "",
                f"files: {files}",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        size = self.size
        return {
            "dense_error": self.dense_error,
            "pruned_error": self.pruned_error,
            "threshold": size.threshold,
            "weights_kept": [layer.weights_kept for layer in size.layers],
            "weight_ratio": size.weight_ratio,
            "parameter_ratio": size.parameter_ratio,
            "units_kept": [layer.inputs_kept for layer in size.layers],
            "sparse_bytes": size.sparse_bytes,
            "dense_bytes": size.dense_bytes,
            "bits_ratio": size.bits_ratio,
            "architecture": self.architecture[1],
            "file_bytes": self.file_bytes,
        }


def summarize(
    model: VariationalDropoutChain,
    x: numpy.ndarray,
    t: numpy.ndarray,
    folder: str | Path,
    *,
    seconds: float = 0.2,
    settings: dict[str, Any] | None = None,
) -> Summary:
    """Prune a trained classifier, write it to files, measure errors, size and speed.

    Writes ``model.npz`` (all parameters), ``model_sparse.npz`` (the pruned model, for
    inference), ``log_alpha.png``, ``masks.png``, and the figures as ``summary.txt`` and
    ``summary.json``.

    Parameters
    ----------
    model : VariationalDropoutChain
        On the CPU.
    x : array, shape (n, ...)
        Test examples.
    t : array of integers, shape (n,)
        Their classes.
    folder : path
    seconds : float
        How long to time each predictor at each batch size.
    settings : dict, optional
        Put into ``summary.json`` beside the figures: how the model was trained.
    """
    folder = Path(folder)
    dense = DenseModel(model, x.shape[1:], masked=False)
    sparse = model.to_cpu_sparse(x.shape[1:])
    save_npz(folder / "model.npz", model)
    sparse.save(folder / "model_sparse.npz")
    plot_log_alpha(model, folder / "log_alpha.png")
    plot_masks(model, folder / "masks.png")
    batches = [batch for batch in (1, 16, 128) if batch <= len(x)]
    predictors = {"dense": dense, "sparse": sparse.predict}
    summary = Summary(
        error_rate(dense, x, t),
        error_rate(sparse.predict, x, t),
        model.size(),
        sparse.architecture,
        compare_latency(predictors, x, batches, seconds),
        {
            name: (folder / name).stat().st_size
            for name in ("model.npz", "model_sparse.npz")
        },
    )
    write_text_atomically(folder / "summary.txt", f"{summary}\n")
    figures = summary.as_dict() | {"settings": settings or {}}
    write_text_atomically(folder / "summary.json", json.dumps(figures, indent=1))
    return summary
