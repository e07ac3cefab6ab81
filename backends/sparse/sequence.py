"""Layers that follow one another."""

from __future__ import annotations

from collections.abc import Sequence

from vdcore.backends.sparse.layer import Activation, Layer, Shape, Stage, WeightedStage


def input_shape(layers: Sequence[Stage]) -> Shape | None:
    """Shape of one example, if the layers say it: if an affine one comes first."""
    for layer in layers:
        if isinstance(layer, Layer):
            return (layer.W.shape[1],)
        if not isinstance(layer, Activation):
            break
    return None


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
    if not any(isinstance(layer, WeightedStage) for layer in layers):
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
