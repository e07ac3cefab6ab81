"""Layers that follow one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vdcore.backends.sparse.layer import Activation, Layer, Shape, Stage, WeightedStage
from vdcore.backends.sparse.recurrent_layers import Embedding, Recurrent


def input_shape(layers: Sequence[Stage]) -> Shape | None:
    """Shape of one example, if the layers say it: if none of images comes first."""
    for layer in layers:
        if isinstance(layer, Embedding):
            return ()
        if isinstance(layer, Recurrent):
            layer = layer.upward
        if isinstance(layer, Layer):
            return (layer.W.shape[1],)
        if not isinstance(layer, Activation):
            break
    return None


def is_recurrent(layers: Iterable[object]) -> bool:
    """Whether layers are those of a model of sequences."""
    return any(isinstance(layer, Embedding | Recurrent) for layer in layers)


def check_stateless(operation: str, layers: Iterable[Stage]) -> None:
    """Raise TypeError if layers are those of a model of sequences."""
    if is_recurrent(layers):
        message = (
            f"{operation}: `layers` must treat each example by itself, got some with a "
            "state, or an embedding; a SparseRecurrentModel runs them"
        )
        raise TypeError(message)


def shapes(layers: Sequence[Stage], in_shape: Shape) -> list[Shape]:
    """Shapes of one example before the first layer and after each.

    Raises
    ------
    ValueError
        If a layer cannot follow the one before.
    """
    result = [in_shape]
    for layer in layers:
        result.append(layer.out_shape(result[-1]))
    return result


def check_order(layers: Sequence[Stage]) -> None:
    """Check that layers can make a network.

    Raises
    ------
    ValueError
        If none has weights, or a softmax is not at the end.
    """
    if not any(isinstance(layer, WeightedStage | Recurrent) for layer in layers):
        message = (
            f"expected that there is a layer with weights; got {len(layers)} others"
        )
        raise ValueError(message)
    for layer in layers[:-1]:
        if layer.activation == "softmax":
            message = (
                f"expected that only the last layer has a softmax; got `{layer.name}`"
            )
            raise ValueError(message)


def check_recurrent(layers: Sequence[Stage]) -> int:
    """Check that layers can make a network of sequences; numbers of its output.

    Raises
    ------
    ValueError
        If they cannot.
    """
    check_order(layers)
    for layer in layers:
        if not isinstance(layer, Embedding | Recurrent | Layer | Activation):
            message = (
                "expected a sequence of an embedding, recurrent and affine layers and "
                f"activations; got `{layer.name}`, a {type(layer).__name__.lower()}"
            )
            raise ValueError(message)
    names = [layer.name for layer in layers if isinstance(layer, Recurrent)]
    if len(set(names)) < len(names):
        message = f"expected recurrent layers of different names; got {names}"
        raise ValueError(message)
    return shapes(layers, input_shape(layers) or ())[-1][0]
