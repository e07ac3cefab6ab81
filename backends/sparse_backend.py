"""Run a pruned network on a CPU: small, fast, with NumPy and SciPy alone.

:func:`to_cpu_sparse` turns a trained chain into a :class:`SparseModel`, which can be
saved, and loaded where nothing of vdcore's training is installed::

    model.to_cpu_sparse().save("model_sparse.npz")

    from vdcore.backends import sparse_backend
    model = sparse_backend.load("model_sparse.npz")
    y = model.predict(x)

With numba installed all sparse layers run in one compiled call.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy

from vdcore.backends.sparse_file import load_layers
from vdcore.backends.sparse_layer import Layer, pruned_layer
from vdcore.backends.sparse_model import SparseModel

if TYPE_CHECKING:
    from vdcore.link import Link
    from vdcore.recording import Shape, Step

__all__ = ["Layer", "SparseModel", "load", "to_cpu_sparse"]


def load(
    path: str | os.PathLike[str],
    *,
    batch_size: int = 16,
    threads: int | None = None,
) -> SparseModel:
    """Read a model that :meth:`SparseModel.save` wrote. Needs NumPy and SciPy only.

    Parameters
    ----------
    path : path
    batch_size, threads
        See :class:`SparseModel`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If `path` is a folder.
    FileFormatError
        A ValueError, if the file is not a sparse model, or damaged.
    """
    return SparseModel(load_layers(path), batch_size=batch_size, threads=threads)


def to_cpu_sparse(
    model: Link,
    in_shape: Shape = None,
    *,
    batch_size: int = 16,
    threads: int | None = None,
) -> SparseModel:
    """A sparse model that answers as `model` does in evaluation.

    Variational layers keep the mean weights whose log alpha is at most the layer's
    threshold; plain linear layers keep all that are not 0. Weights become float32.

    Parameters
    ----------
    model : Link
        Its forward may run linear layers, in nested chains too, with relu, tanh,
        sigmoid, softmax (at the end) and flatten between them, one after the other.
    in_shape : tuple of int, optional
        Shape of one input example, for a forward that asks for its input's shape.
    batch_size, threads
        See :class:`SparseModel`.

    Raises
    ------
    TypeError
        If the model computes anything else; the text names the link.
    ValueError
        If a weight is not finite, or layers do not fit together.
    RuntimeError
        If the shape of a layer is not known yet.
    """
    from vdcore.links import Linear, VariationalDropoutLinear
    from vdcore.recording import record

    leaves = {Linear: _out_shape, VariationalDropoutLinear: _out_shape}
    layers: list[Layer] = []
    for step in record(model, leaves, in_shape):
        if step.link is not None:
            layers.append(_layer(step))
        elif step.name != "flatten":
            if not layers or layers[-1].activation != "identity":
                message = (
                    f"to_cpu_sparse: {step.name} must follow a linear layer; a sparse "
                    "model has one activation after each"
                )
                raise TypeError(message)
            layers[-1] = replace(layers[-1], activation=step.name)
    return SparseModel(layers, batch_size=batch_size, threads=threads)


def _out_shape(link: Any, shape: Shape) -> Shape:
    if shape is not None and link.in_size not in (None, math.prod(shape)):
        message = (
            f"to_cpu_sparse: link `{link.name}` takes {link.in_size} numbers an "
            f"example, got shape {shape}"
        )
        raise ValueError(message)
    return (link.out_size,)


def _layer(step: Step) -> Layer:
    from vdcore.arrays import to_numpy
    from vdcore.links import VariationalLink

    link: Any = step.link
    name = (step.path or "").strip("/") or step.name
    if not link.W.is_initialized:
        message = (
            f"to_cpu_sparse: the shape of layer `{name}` is not known yet; call the "
            "model on one batch first"
        )
        raise RuntimeError(message)
    parameters = {
        key: to_numpy(parameter.array).astype(numpy.float32)
        for key, parameter in (("W", link.W), ("b", link.b))
        if parameter is not None
    }
    variational = isinstance(link, VariationalLink)
    checked = parameters | (
        {"log_sigma2": to_numpy(link.log_sigma2.array)} if variational else {}
    )
    for key, array in checked.items():
        broken = array.size - numpy.count_nonzero(numpy.isfinite(array))
        if broken:
            message = (
                f"to_cpu_sparse: {broken} of {array.size} values of `{key}` of layer "
                f"`{name}` are not finite in float32; the training has diverged"
            )
            raise ValueError(message)
    W = parameters["W"]
    keep = to_numpy(link.keep_mask()) if variational else W != 0
    return pruned_layer(name, W, keep, parameters.get("b"))
