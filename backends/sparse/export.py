"""The layers of a trained chain, as those of a sparse model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy
from scipy.sparse import csr_array

from vdcore.arrays import to_numpy
from vdcore.backends.sparse.images import Convolution, Flatten, Pooling
from vdcore.backends.sparse.layer import Activation, Layer, Stage, WeightedStage, pruned
from vdcore.backends.sparse.recurrent_layers import Embedding, Recurrent
from vdcore.backends.sparse.sequence import input_shape, is_recurrent
from vdcore.links import (
    LSTM,
    BatchNormalization,
    Convolution2D,
    EmbedID,
    Linear,
    StatefulGRU,
    TanhRNN,
    VariationalDropoutConvolution2D,
    VariationalDropoutEmbedID,
    VariationalDropoutLinear,
    VariationalLink,
)
from vdcore.links.recurrent import RecurrentLink
from vdcore.recording import Step, record
from vdcore.windows import Window

if TYPE_CHECKING:
    from vdcore.link import Link
    from vdcore.recording import Shape


@dataclass(frozen=True)
class _Draft:
    """A layer with dense weights in double precision, and which of them stay."""

    layer: Any
    keep: numpy.ndarray

    def of(self, kind: Any) -> _Draft:
        """The same weights without biases, as a layer of another kind."""
        return replace(self, layer=kind(self.layer.name, self.layer.W))


@dataclass(frozen=True)
class _Scaling:
    """Batch normalisation with running statistics, by channel or feature."""

    name: str
    factor: numpy.ndarray
    shift: numpy.ndarray
    activation: str = "identity"


def layers_of(
    model: Link, in_shape: Shape = None, *, masked: bool = True, dense: bool = False
) -> tuple[list[Stage], Shape]:
    """The layers that a model runs in evaluation, and the shape of one example.

    Parameters
    ----------
    model : Link
    in_shape : tuple of int, optional
        See :func:`vdcore.backends.sparse_backend.to_cpu_sparse`, which says what the
        errors are too.
    masked : bool
        Leave out the noise weights of variational layers.
    dense : bool
        Store all weights, those left out as 0.
    """
    drafts: list[Any] = []
    steps = record(model, _LEAVES, in_shape)
    for step in steps:
        if step.link is None:
            _append_function(drafts, step)
        elif isinstance(step.link, BatchNormalization):
            _append_scaling(drafts, _scaling(step))
        elif isinstance(step.link, EmbedID):
            draft = _draft(step, masked).of(Embedding)
            drafts.append(_stored(draft, dense))
        elif isinstance(step.link, RecurrentLink):
            _append_recurrent(drafts, step, masked, dense)
        else:
            _append_weights(drafts, _draft(step, masked))
    if is_recurrent(drafts):
        in_shape = None  # that of a sequence was for the forward
    elif any(step.name == "rows" for step in steps):
        message = (
            "to_cpu_sparse: the model uses `rows`, which joins steps and examples, but "
            "has no embedding and no recurrent layer; to flatten examples use `flatten`"
        )
        raise TypeError(message)
    layers: list[Stage] = []
    shape = in_shape
    for draft in drafts:
        if isinstance(draft, _Draft):
            draft = _stored(draft, dense)
        elif isinstance(draft, _Scaling):
            draft = _scaling_layer(draft, shape)
        layers.append(draft)
        if shape is None:
            shape = input_shape(layers)
        shape = None if shape is None else draft.out_shape(shape)
    known = input_shape(layers)
    return layers, in_shape if known is None else known


def _linear_shape(link: Any, shape: Shape) -> Shape:
    if shape is not None and link.in_size not in (None, math.prod(shape)):
        message = (
            f"to_cpu_sparse: link `{link.name}` takes {link.in_size} numbers an "
            f"example, got shape {shape}"
        )
        raise ValueError(message)
    return (link.out_size,)


def _convolution_shape(link: Any, shape: Shape) -> Shape:
    channels = "channels" if link.in_channels is None else link.in_channels
    if shape is None:
        message = (
            f"to_cpu_sparse: link `{link.name}` takes images, whose size is not known; "
            f"pass `in_shape`, the shape of one example: (channels, height, width)"
        )
        raise ValueError(message)
    fits = len(shape) == 3 and link.in_channels in (None, shape[0])
    positions = link.window.positions(shape[1:]) if fits else (0, 0)
    if min(positions) < 1:
        message = (
            f"to_cpu_sparse: link `{link.name}` takes images of shape ({channels}, "
            f"height, width), no smaller than its window of {link.window.extent}, got "
            f"shape {shape}"
        )
        raise ValueError(message)
    return (link.out_channels, *positions)


def _scaling_shape(link: Any, shape: Shape) -> Shape:
    if shape is not None and link.avg_mean is not None:
        size = link.avg_mean.shape[0]
        if shape[0] != size:
            message = (
                f"to_cpu_sparse: link `{link.name}` takes {size} channels, got shape "
                f"{shape}"
            )
            raise ValueError(message)
    return shape


def _embedding_shape(link: Any, shape: Shape) -> Shape:
    """Of a sequence of integers, unless the shape of a step was given."""
    return (*((1,) if shape is None else shape), link.out_size)


def _recurrent_shape(link: Any, shape: Shape) -> Shape:
    if shape is not None and link.in_size not in (None, *shape[-1:]):
        message = (
            f"to_cpu_sparse: link `{link.name}` takes {link.in_size} numbers a step, "
            f"got shape {shape}"
        )
        raise ValueError(message)
    return (*((1,) if shape is None else shape[:-1]), link.out_size)


_LEAVES: Mapping[Any, Any] = {
    Linear: _linear_shape,
    VariationalDropoutLinear: _linear_shape,
    Convolution2D: _convolution_shape,
    VariationalDropoutConvolution2D: _convolution_shape,
    BatchNormalization: _scaling_shape,
    EmbedID: _embedding_shape,
    VariationalDropoutEmbedID: _embedding_shape,
    LSTM: _recurrent_shape,
    StatefulGRU: _recurrent_shape,
    TanhRNN: _recurrent_shape,
}

_CELLS = {LSTM: "lstm", StatefulGRU: "gru", TanhRNN: "tanh"}


def _append_function(drafts: list[Any], step: Step) -> None:
    if step.name in _POOLINGS:
        drafts.append(Pooling(step.name, _POOLINGS[step.name], **step.options))
    elif step.name == "flatten":
        drafts.append(Flatten(step.name))
    elif step.name == "rows":
        pass  # a sparse model keeps the axes of steps and examples apart
    else:
        last = drafts[-1] if drafts else None
        if step.name == "softmax" and not isinstance(getattr(last, "layer", 0), Layer):
            drafts.append(Activation(step.name, step.name))  # refused after images
        elif isinstance(last, _Draft) and last.layer.activation == "identity":
            layer = replace(last.layer, activation=step.name)
            drafts[-1] = replace(last, layer=layer)
        elif isinstance(last, _Scaling) and last.activation == "identity":
            drafts[-1] = replace(last, activation=step.name)
        else:
            drafts.append(Activation(step.name, step.name))


_POOLINGS = {"max_pooling_2d": "max", "average_pooling_2d": "average"}


def _append_scaling(drafts: list[Any], scaling: _Scaling) -> None:
    """Fold batch normalisation into what it follows, if that is linear."""
    last = drafts[-1] if drafts else None
    factor, shift = scaling.factor, scaling.shift
    if isinstance(last, _Scaling) and last.activation == "identity":
        shift = last.shift * factor + shift
        drafts[-1] = replace(last, factor=last.factor * factor, shift=shift)
    elif isinstance(last, _Draft) and last.layer.activation == "identity":
        W, b = last.layer.W * factor[:, None], last.layer.b
        b = shift if b is None else b * factor + shift
        drafts[-1] = replace(last, layer=replace(last.layer, W=W, b=b))
    else:
        drafts.append(scaling)


def _append_weights(drafts: list[Any], draft: _Draft) -> None:
    """Append a layer; an affine one takes in the scaling that it follows.

    A convolution does not: its padding comes after, and is not normalised.
    """
    if isinstance(draft.layer, Layer):
        while drafts and isinstance(drafts[-1], Flatten):
            drafts.pop()
        draft = _with_scaling(drafts, draft)
    drafts.append(draft)


def _with_scaling(drafts: list[Any], draft: _Draft) -> _Draft:
    """An affine layer that does what the scaling before it did, which goes."""
    last = drafts[-1] if drafts else None
    if not isinstance(last, _Scaling) or last.activation != "identity":
        return draft
    drafts.pop()
    W, b = draft.layer.W, draft.layer.b
    pixels = W.shape[1] // len(last.factor)
    factor, shift = (v.repeat(pixels) for v in (last.factor, last.shift))
    b = numpy.where(draft.keep, W, 0) @ shift + (0 if b is None else b)
    layer = replace(draft.layer, W=W * factor, b=b)
    return replace(draft, layer=layer, keep=draft.keep & (factor != 0))


def _draft(step: Step, masked: bool) -> _Draft:
    link: Any = step.link
    name = _name(step)
    _check_initialized(name, link.W.is_initialized)
    variational = isinstance(link, VariationalLink)
    W = _finite(name, "W", link.W.array)
    W = W.reshape(len(W), -1)
    b = None if link.b is None else _finite(name, "b", link.b.array)
    keep = W != 0
    if variational:
        _finite(name, "log_sigma2", link.log_sigma2.array)
        W = W * _multipliers(link, masked)
        keep = to_numpy(link.keep_mask()).reshape(W.shape) if masked else W == W
    if not isinstance(link, Convolution2D):
        return _Draft(Layer(name, W, b), keep)
    geometry: dict[str, Any] = {"window": link.window, "groups": link.groups}
    return _Draft(Convolution(name, W, b, **geometry), keep)


def _multipliers(link: VariationalLink, masked: bool) -> Any:
    """What the weights of a layer are multiplied by, of a shape that goes with them."""
    factor: Any = 1.0
    for group in link.multiplied:
        if group.is_factor:
            means = _means(group.scale, masked)
            factor = factor * group.spread(means, link.W.array)
    return factor


def _means(scale: VariationalLink, masked: bool) -> numpy.ndarray:
    """Mean multipliers, in double precision."""
    W = scale.masked_W() if masked else scale.W.array
    return _finite(f"{scale.name}", "W", W)


def _append_recurrent(drafts: list[Any], step: Step, masked: bool, dense: bool) -> None:
    """Append a recurrent layer, and multipliers of its units for the next one."""
    link: Any = step.link
    name = _name(step)
    _check_initialized(name, link.upward.W.is_initialized)
    upward, lateral = (
        _draft(Step(child, f"{name}/{child}", link[child]), masked)
        for child in ("upward", "lateral")
    )
    maps = _with_scaling(drafts, upward), lateral
    (cell,) = (cell for cls, cell in _CELLS.items() if isinstance(link, cls))
    drafts.append(Recurrent(name, cell, *(_stored(draft, dense) for draft in maps)))
    if link.unit_scale is not None:
        factor = _means(link.unit_scale, masked)
        scaling = _Scaling(f"{name}/unit_scale", factor, numpy.zeros_like(factor))
        drafts.append(scaling)


def _scaling(step: Step) -> _Scaling:
    link: Any = step.link
    name = _name(step)
    _check_initialized(name, link.avg_mean is not None)
    mean, variance = (
        _finite(name, key, getattr(link, key)) for key in ("avg_mean", "avg_var")
    )
    factor = 1 / numpy.sqrt(variance + link.eps)
    if link.gamma is not None:
        factor *= _finite(name, "gamma", link.gamma.array)
    shift = -mean * factor
    if link.beta is not None:
        shift += _finite(name, "beta", link.beta.array)
    return _Scaling(name, factor, shift)


def _scaling_layer(scaling: _Scaling, shape: Shape) -> WeightedStage:
    """Batch normalisation that stays a layer: each channel times a number."""
    name, activation, size = scaling.name, scaling.activation, len(scaling.factor)
    factor, shift = (
        _single(name, "W", scaling.factor),
        _single(name, "b", scaling.shift),
    )
    if shape is None or len(shape) == 1:
        entries = (factor, numpy.arange(size), numpy.arange(size + 1))
        return Layer(name, csr_array(entries, shape=(size, size)), shift, activation)
    one = Window((1, 1))
    return Convolution(
        name, factor[:, None], shift, activation, window=one, groups=size
    )


def _stored(draft: _Draft, dense: bool) -> WeightedStage:
    """The layer in single precision."""
    layer = draft.layer
    W, b = _single(layer.name, "W", layer.W), layer.b
    if b is not None:
        b = _single(layer.name, "b", b)
    if dense:
        W = numpy.where(draft.keep, W, numpy.float32(0))
        return replace(layer, W=W, b=b)
    return pruned(replace(layer, W=W, b=b), draft.keep)


def _name(step: Step) -> str:
    return (step.path or "").strip("/") or step.name


def _check_initialized(name: str, is_initialized: bool) -> None:
    if not is_initialized:
        message = (
            f"to_cpu_sparse: the shape of layer `{name}` is not known yet; call the "
            "model on one batch first"
        )
        raise RuntimeError(message)


def _finite(name: str, key: str, array: Any) -> numpy.ndarray:
    """The values in double precision, or the error that says which are not finite."""
    array = to_numpy(array)
    with numpy.errstate(over="ignore"):
        finite = numpy.isfinite(array.astype(numpy.float32))
    broken = array.size - numpy.count_nonzero(finite)
    if broken:
        message = (
            f"to_cpu_sparse: {broken} of {array.size} values of `{key}` of layer "
            f"`{name}` are not finite in float32; the training has diverged"
        )
        raise ValueError(message)
    return array.astype(numpy.float64)


def _single(name: str, key: str, array: numpy.ndarray) -> numpy.ndarray:
    return _finite(name, key, array).astype(numpy.float32)
