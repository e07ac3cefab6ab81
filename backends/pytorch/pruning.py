"""Turn variational torch layers into plain ones without the noise weights."""

from __future__ import annotations

from torch import nn

from vdcore.backends.pytorch.variational_module import VariationalModule

FORMATS = ("dense", "sparse_csr")


def prune_(module: nn.Module, to: str = "dense") -> nn.Module:
    """Set the noise weights to 0 and make the layers torch's own again, in place.

    The model answers as it did in evaluation, but for rounding where the products are
    sparse, or torch has a fused kernel for the plain layer. Print
    :func:`sparsity_report` before: nothing is left to count after.

    Parameters
    ----------
    module : nn.Module
    to : {"dense", "sparse_csr"}
        Form of the weights of linear layers. "sparse_csr" stores them as
        ``torch.sparse_csr`` tensors, without gradient, which torch can evaluate but not
        train. All other layers, and weights that layers share, become dense ones with
        zeros.

    Returns
    -------
    nn.Module
        `module`; if it is a layer itself it has become its plain form.

    Raises
    ------
    ValueError
        If `to` is neither.
    RuntimeError
        If there is no variational layer.
    """
    if to not in FORMATS:
        message = f"prune_: `to` must be one of {FORMATS}, got {to!r}"
        raise ValueError(message)
    layers = [x for x in module.modules() if isinstance(x, VariationalModule)]
    if not layers:
        message = (
            f"prune_: there is no variational layer in this {type(module).__name__}; "
            "was it pruned before?"
        )
        raise RuntimeError(message)
    linear = [layer for layer in layers if type(layer).dense_class is nn.Linear]
    for layer in layers:
        # Parts of one that was met before, as an attention's, are plain by now.
        if isinstance(layer, VariationalModule):
            layer.become_dense()
    if to == "sparse_csr":
        owners = [id(p) for m in module.modules() for p in m._parameters.values()]
        for layer in linear:
            if owners.count(id(layer.weight)) == 1:
                weight = layer.weight.detach().to_sparse_csr()
                layer.weight = nn.Parameter(weight, requires_grad=False)
    return module
