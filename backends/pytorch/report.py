"""How small a torch module is once its noise weights are left out."""

from __future__ import annotations

from torch import nn

from vdcore.backends.pytorch.objective import variational_modules
from vdcore.variational import NetworkSize


def sparsity_report(module: nn.Module) -> NetworkSize:
    """The five size measures of the pruned module; print it for a table.

    Parameters of other layers count as kept, and shared ones once.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    vdcore.variational.NetworkSize

    Raises
    ------
    RuntimeError
        If there is no variational layer.
    ValueError
        If layers have different thresholds, or share weights but not log variances.
    """
    layers = list(variational_modules(module))
    if not layers:
        message = (
            f"sparsity_report: there is no variational layer in this "
            f"{type(module).__name__}; call convert(module) first"
        )
        raise RuntimeError(message)
    thresholds = {layer.threshold for _, layer in layers}
    if len(thresholds) > 1:
        message = (
            "sparsity_report: all layers must have one threshold to be counted "
            f"together, got {sorted(thresholds)}; set `threshold` of the layers"
        )
        raise ValueError(message)
    sizes = tuple(
        size
        for path, layer in layers
        for size in layer.layer_sizes(path or type(layer).__name__)
    )
    counted = {id(p) for _, layer in layers for p in layer.parameters(recurse=False)}
    others = sum(p.numel() for p in module.parameters() if id(p) not in counted)
    return NetworkSize(sizes, thresholds.pop(), others)
