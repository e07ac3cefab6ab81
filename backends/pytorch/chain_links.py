"""How torch's layers become vdcore's links, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from vdcore import functions as F
from vdcore import links as L
from vdcore.backends.pytorch.convolution import Conv2dVD
from vdcore.backends.pytorch.embedding import EmbeddingVD
from vdcore.backends.pytorch.linear import LinearVD
from vdcore.backends.pytorch.lstm import LSTMVD
from vdcore.backends.pytorch.variational_module import VariationalModule


def _linear(to: Any, path: str, layer: Any) -> None:
    if to.kind == "images":
        to.refuse(f"`{path}`", "maps the last axis of images; flatten them before")
    if to.kind == "sequences" and F.rows not in to.chain.steps:
        to.chain.steps.append(F.rows)
    weight, bias, options = _posterior(layer)
    form = L.VariationalDropoutLinear if options else L.Linear
    sizes = layer.in_features, layer.out_features
    to.chain.append_link(path, form(*sizes, bias is None, weight, bias, **options))


def _convolution(to: Any, path: str, layer: Any) -> None:
    to.kind = "images"
    padding = layer.padding
    if padding == "valid":
        padding = (0, 0)
    if padding == "same":
        sides = layer._reversed_padding_repeated_twice
        padding = (sides[2], sides[0])
        if sides != [sides[0]] * 2 + [sides[2]] * 2:
            to.refuse(f"`{path}`", "has more padding on one side than on the other")
    if any(padding):
        to.require(path, layer, padding_mode="zeros")
    weight, bias, options = _posterior(layer)
    form = L.VariationalDropoutConvolution2D if options else L.Convolution2D
    link = form(
        layer.in_channels,
        layer.out_channels,
        tuple(layer.kernel_size),
        tuple(layer.stride),
        tuple(padding),
        bias is None,
        weight,
        bias,
        dilate=tuple(layer.dilation),
        groups=layer.groups,
        **options,
    )
    to.chain.append_link(path, link)


def _embedding(to: Any, path: str, layer: Any) -> None:
    to.require(path, layer, max_norm=None)
    weight, _, options = _posterior(layer)
    if options:
        if layer.padding_idx is not None:  # a constant is kept, however small
            row = layer.padding_idx
            options["initial_log_sigma2"][row, weight[row] != 0] = -100
        options["noise"] = layer.noise
    form = L.VariationalDropoutEmbedID if options else L.EmbedID
    sizes = layer.num_embeddings, layer.embedding_dim
    to.chain.append_link(path, form(*sizes, weight, **options))
    to.kind = "sequences"


def _lstm(to: Any, path: str, layer: Any) -> None:
    to.require(path, layer, bidirectional=False, proj_size=0, batch_first=False)
    for number in range(layer.num_layers):
        if number and layer.dropout:
            to.chain.append_link(f"{path}.dropout{number}", L.Dropout(layer.dropout))
        upward, _, options = _posterior(layer, f"weight_ih_l{number}")
        lateral, _, lateral_options = _posterior(layer, f"weight_hh_l{number}")
        sizes = upward.shape[1], layer.hidden_size
        log_sigma2 = options.pop("initial_log_sigma2", None)
        if options:
            link: Any = L.VariationalDropoutLSTM(*sizes, noise=layer.noise, **options)
            link.upward.log_sigma2.array = log_sigma2
            link.lateral.log_sigma2.array = lateral_options["initial_log_sigma2"]
        else:
            link = L.LSTM(*sizes)
        link.upward.W.array = upward
        link.lateral.W.array = lateral
        bias = numpy.zeros(len(upward), upward.dtype)
        if layer.bias:
            for kind in ("ih", "hh"):
                bias = bias + _array(getattr(layer, f"bias_{kind}_l{number}"))
        link.upward.b.array = bias
        name = path if layer.num_layers == 1 else f"{path}.{number}"
        to.chain.append_link(name, link)
    to.kind = "states"


def _normalization(to: Any, path: str, layer: Any) -> None:
    to.require(path, layer, track_running_stats=True)
    if to.kind == "sequences":
        to.refuse(f"`{path}`", "normalises sequences")
    link = L.BatchNormalization(
        layer.num_features,
        0.9 if layer.momentum is None else 1 - layer.momentum,
        layer.eps,
        _array(layer.running_mean).dtype,
        layer.affine,
        layer.affine,
    )
    link.avg_mean = _array(layer.running_mean)
    link.avg_var = _array(layer.running_var)
    if layer.affine:
        link.gamma.array = _array(layer.weight)
        link.beta.array = _array(layer.bias)
    to.chain.append_link(path, link)


def max_pooling(to: Any, path: str, layer: Any) -> None:
    """Append the function that does what a layer does."""
    to.kind = "images"
    if layer.dilation not in (1, (1, 1)):
        to.refuse(f"`{path}`", "has a dilation")
    to.require(path, layer, return_indices=False)
    sizes = layer.kernel_size, layer.stride, layer.padding
    to.pool("max", *sizes, cover_all=layer.ceil_mode)


def average_pooling(to: Any, path: str, layer: Any) -> None:
    """Append the function that does what a layer does."""
    to.kind = "images"
    to.require(path, layer, ceil_mode=False, divisor_override=None)
    if layer.padding not in (0, (0, 0)):
        to.require(path, layer, count_include_pad=True)
    to.pool("average", layer.kernel_size, layer.stride, layer.padding)


def _flatten(to: Any, path: str, layer: Any) -> None:
    to.require(path, layer, start_dim=1, end_dim=-1)
    to.flatten()


def _nothing(to: Any, path: str, layer: Any) -> None:
    """A layer that hands on its input."""


def _dropout(to: Any, path: str, layer: Any) -> None:
    to.chain.append_link(path, L.Dropout(layer.p))


def _elementwise(name: str) -> Callable[[Any, str, Any], None]:
    def build(to: Any, path: str, layer: Any) -> None:
        to.chain.steps.append(getattr(F, name))

    return build


def _softmax(to: Any, path: str, layer: Any) -> None:
    to.softmax(layer.dim)


LINKS: Mapping[type[nn.Module], Callable[[Any, str, Any], None]] = {
    nn.Linear: _linear,
    LinearVD: _linear,
    nn.Conv2d: _convolution,
    Conv2dVD: _convolution,
    nn.Embedding: _embedding,
    EmbeddingVD: _embedding,
    nn.LSTM: _lstm,
    LSTMVD: _lstm,
    nn.BatchNorm1d: _normalization,
    nn.BatchNorm2d: _normalization,
    nn.MaxPool2d: max_pooling,
    nn.AvgPool2d: average_pooling,
    nn.Flatten: _flatten,
    nn.Identity: _nothing,
    nn.Dropout: _dropout,
    nn.ReLU: _elementwise("relu"),
    nn.Tanh: _elementwise("tanh"),
    nn.Sigmoid: _elementwise("sigmoid"),
    nn.Softmax: _softmax,
}


def _posterior(layer: Any, name: str = "weight") -> tuple[Any, Any, dict[str, Any]]:
    """Weight, bias, and the arguments that make a variational link, if it is one."""
    bias = getattr(layer, "bias", None)
    bias = _array(bias) if isinstance(bias, Tensor) else None
    options: dict[str, Any] = {}
    if isinstance(layer, VariationalModule):
        weight, log_sigma2 = map(_array, layer.posterior(name))
        options = {
            "loga_threshold": layer.threshold,
            "initial_log_sigma2": log_sigma2,
            "kl": layer.kl,
            "clip": layer.clip,
            "mask_in_training": layer.mask_in_training,
        }
    else:
        weight = _array(getattr(layer, name))
    return weight, bias, options


def _array(tensor: Tensor) -> numpy.ndarray:
    """A copy of the values."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return tensor.numpy().copy()
