"""Pruned weights of a torch module, to a ``.safetensors`` file."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from vdcore.backends.pytorch.variational_module import (
    VariationalModule,
    log_sigma2_name,
)
from vdcore.files import open_atomically


def pruned_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The state of the plain module that :func:`prune_` would make, as copies.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    dict of Tensor
        Under the names of the plain layers; noise weights are 0, and sparse tensors
        dense.
    """
    state = {name: _copied(value) for name, value in module.state_dict().items()}
    # Under all of its paths, as state_dict has a layer that is used twice.
    for path, layer in module.named_modules(remove_duplicate=False):
        if isinstance(layer, VariationalModule):
            prefix = f"{path}." if path else ""
            for name in layer.weight_names:
                state[prefix + name] = layer.masked(name).detach()
                del state[prefix + log_sigma2_name(name)]
    return state


def save_safetensors(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the pruned weights of any torch module to a ``.safetensors`` file.

    ``vdcore.serializers.load_safetensors`` reads them into a chain of the same layers,
    ``safetensors.torch.load_file`` into the plain torch module.

    Parameters
    ----------
    module : nn.Module
    path : path-like
        Replaced only when all is written.

    Raises
    ------
    ImportError
        If the package safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        message = (
            "save_safetensors: this needs the package safetensors; run "
            '`pip install "vdcore[safetensors]"`'
        )
        raise ImportError(message) from error
    content = save(pruned_state_dict(module), {"format": "pt"})
    with open_atomically(path) as file:
        file.write(content)


def _copied(value: Tensor) -> Tensor:
    value = value.detach()
    if value.layout != torch.strided:
        return value.to_dense()
    return value.clone(memory_format=torch.contiguous_format)
