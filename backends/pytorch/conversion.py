"""Turn the layers of a torch model into variational ones, in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy

from vdcore.backends.pytorch.attention import MultiheadAttentionVD
from vdcore.backends.pytorch.convolution import Conv1dVD, Conv2dVD, Conv3dVD
from vdcore.backends.pytorch.embedding import EmbeddingVD
from vdcore.backends.pytorch.linear import LinearVD
from vdcore.backends.pytorch.lstm import LSTMVD
from vdcore.backends.pytorch.variational_module import VariationalModule
from vdcore.links.variational_rules import check_rule

VARIATIONAL_FORM: Mapping[type[nn.Module], type[VariationalModule]] = {
    form.dense_class: form
    for form in (
        LinearVD,
        Conv1dVD,
        Conv2dVD,
        Conv3dVD,
        EmbeddingVD,
        LSTMVD,
        MultiheadAttentionVD,
    )
}
WITH_NOISE = (nn.Embedding, nn.LSTM)  # whose forms have rules of noise


@dataclass(frozen=True)
class ConversionReport:
    """What :func:`convert` did; print it for a table.

    Attributes
    ----------
    converted : dict
        From the path of a layer to the name of its new class.
    kept : dict
        From the path of a layer with weights that was left as it is to the reason.
    """

    converted: Mapping[str, str]
    kept: Mapping[str, str]

    def __str__(self) -> str:
        lines = [
            *(f"{path}: {name}" for path, name in self.converted.items()),
            *(f"{path}: left as it is, {reason}" for path, reason in self.kept.items()),
        ]
        return "\n".join(lines)


def convert(
    module: nn.Module, *, noise: str = "weights", **options: Any
) -> ConversionReport:
    """Make the layers of a model variational, in place, with the weights they have.

    A layer keeps its identity, its parameters and their names, and gets log variances:
    references to it, weights that layers share and hooks stay what they were.
    Optimizers must be made after this, as parameters are added.

    Parameters
    ----------
    module : nn.Module
        It and all below it are searched. Layers whose class is exactly ``Linear``,
        ``Conv1d``, ``Conv2d``, ``Conv3d``, ``Embedding``, ``LSTM`` or
        ``MultiheadAttention`` are converted, so all of a ``Transformer``. torch's fused
        kernels for evaluating transformer layers, which would read the means with the
        noise, are turned off, and stay off.
    noise : {"weights", "activations"}
        Rule of LSTMs and embeddings; see :class:`LSTMVD`.
    **options
        `threshold`, `initial_log_sigma2`, `kl`, `clip`, `mask_in_training` and
        `generator`, as of :class:`LinearVD`.

    Returns
    -------
    ConversionReport
        Layers that have weights and were left as they are are in it, with the reason.

    Raises
    ------
    ValueError, TypeError
        If an option is wrong; the module is as it was then.
    """
    check_rule("convert", noise)
    # An error later on would leave the module half converted.
    LinearVD(1, 1, device="meta", **options)
    candidates, kept = _sorted_out(module)
    log_variances = {
        id(weight): log_sigma2
        for layer in module.modules()
        if isinstance(layer, VariationalModule)
        for weight, log_sigma2 in map(layer.posterior, layer.weight_names)
    }
    converted = {}
    for path, layer in candidates.items():
        form = VARIATIONAL_FORM[type(layer)]
        rule = {"noise": noise} if type(layer) in WITH_NOISE else {}
        layer.__class__ = form
        layer.become_variational(shared=log_variances, **rule, **options)
        converted[path] = form.__name__
    for layer in module.modules():
        _avoid_fast_path(layer)
    return ConversionReport(converted, kept)


def _sorted_out(module: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Layers to convert, and the reasons why others with weights are not."""
    candidates: dict[str, nn.Module] = {}
    kept: dict[str, str] = {}
    owners: dict[int, list[str]] = {}
    for path, layer in module.named_modules():
        if isinstance(layer, VariationalModule | NonDynamicallyQuantizableLinear):
            continue  # the latter is a part of an attention
        weights = [p for p in layer._parameters.values() if p is not None]
        for weight in weights:
            owners.setdefault(id(weight), []).append(path)
        reason = _reason(layer, weights)
        if reason:
            kept[path] = reason
        elif type(layer) in VARIATIONAL_FORM:
            candidates[path] = layer
    shared = [paths for paths in owners.values() if len(paths) > 1]
    for path in {path for paths in shared for path in paths}:
        if getattr(candidates.get(path), "padding_idx", None) is not None:
            kept[path] = (
                "it shares its vectors, and that of `padding_idx` would be no "
                "constant; set `padding_idx` to None first"
            )
            del candidates[path]
    while True:  # what is left may share another weight with others
        for paths in shared:
            left = [path for path in paths if path not in candidates]
            if left and len(left) < len(paths):
                for path in set(paths) - set(left):
                    kept[path] = f"it shares a parameter with `{left[0]}`, which is too"
                    del candidates[path]
                break
        else:
            return candidates, kept


def _reason(layer: nn.Module, weights: list[nn.Parameter]) -> str | None:
    """Why a layer that has weights cannot be converted."""
    name = type(layer).__name__
    if any(is_lazy(weight) for weight in weights):
        return f"a {name} whose shape is not known; call the model on one batch first"
    if type(layer) not in VARIATIONAL_FORM:
        base = next((b for b in type(layer).__mro__ if b in VARIATIONAL_FORM), None)
        if base is not None:
            return f"a {name} may compute otherwise than its base {base.__name__}"
        if any(weight.dim() > 1 for weight in weights):
            return f"there is no variational form of a {name}"
        return None
    if isinstance(layer, nn.Embedding) and layer.sparse:
        return "an Embedding with sparse=True: the KL term has dense gradients"
    if not any(name in layer._parameters for name in _first_weights(layer)):
        return (
            f"the weight of this {name} is computed, not a parameter; remove "
            "weight_norm or pruning from it first"
        )
    if any(weight.layout != torch.strided for weight in weights):
        return f"a {name} whose weight is sparse already"
    if not all(weight.is_floating_point() for weight in weights):
        return f"a {name} of a dtype that is not floating-point"
    return None


def _first_weights(layer: nn.Module) -> tuple[str, ...]:
    """Names of which one must be that of a parameter."""
    if isinstance(layer, nn.LSTM):
        return ("weight_ih_l0",)
    if isinstance(layer, nn.MultiheadAttention):
        return ("in_proj_weight", "q_proj_weight")
    return ("weight",)


def _avoid_fast_path(layer: nn.Module) -> None:
    """Let transformer layers with variational parts run these parts."""
    if not any(isinstance(part, VariationalModule) for part in layer.modules()):
        return
    if isinstance(layer, nn.TransformerEncoderLayer):
        layer.activation_relu_or_gelu = 0  # "some other": it has no fused kernel
    elif isinstance(layer, nn.TransformerEncoder):
        layer.use_nested_tensor = False  # which only the fused kernel takes
