"""Sparse variational dropout in torch: layers, objective, conversion, pruning, export.

The layers take the arguments of the torch layers that they replace, and their weights::

    from vdcore.backends import torch_backend as vd

    vd.convert(model)  # any model of torch's layers, in place
    criterion = vd.ELBOLoss(model, F.cross_entropy, n_train=len(train))
    ...
    print(vd.sparsity_report(model))
    vd.prune_(model)

A script for pytorch_ard runs with ``from vdcore.backends import torch_backend as
nn_ard``. ``docs/torch.md`` is a guide.
"""

from __future__ import annotations

from vdcore.backends.pytorch.ard_aliases import (
    Conv2dARD,
    LinearARD,
    get_ard_reg,
    get_dropped_params_ratio,
)
from vdcore.backends.pytorch.attention import MultiheadAttentionVD
from vdcore.backends.pytorch.chain import to_chain
from vdcore.backends.pytorch.conversion import ConversionReport, convert
from vdcore.backends.pytorch.convolution import Conv1dVD, Conv2dVD, Conv3dVD
from vdcore.backends.pytorch.embedding import EmbeddingVD
from vdcore.backends.pytorch.linear import LinearVD
from vdcore.backends.pytorch.lstm import LSTMVD
from vdcore.backends.pytorch.objective import ELBOLoss, kl_divergence
from vdcore.backends.pytorch.pruning import prune_
from vdcore.backends.pytorch.report import sparsity_report
from vdcore.backends.pytorch.weights_file import pruned_state_dict, save_safetensors
from vdcore.backends.sparse_backend import to_cpu_sparse

__all__ = [
    "LSTMVD",
    "Conv1dVD",
    "Conv2dARD",
    "Conv2dVD",
    "Conv3dVD",
    "ConversionReport",
    "ELBOLoss",
    "EmbeddingVD",
    "LinearARD",
    "LinearVD",
    "MultiheadAttentionVD",
    "convert",
    "get_ard_reg",
    "get_dropped_params_ratio",
    "kl_divergence",
    "prune_",
    "pruned_state_dict",
    "save_safetensors",
    "sparsity_report",
    "to_chain",
    "to_cpu_sparse",
]
