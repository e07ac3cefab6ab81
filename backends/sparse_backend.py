"""Run a pruned network on a CPU: small, fast, with NumPy and SciPy alone.

:func:`to_cpu_sparse` turns a trained chain into a :class:`SparseModel`, which can be
saved, and loaded where nothing of vdcore's training is installed::

    model.to_cpu_sparse().save("model_sparse.npz")

    from vdcore.backends import sparse_backend
    model = sparse_backend.load("model_sparse.npz")
    y = model.predict(x)

A model of sequences, such as a language model, becomes a
:class:`SparseRecurrentModel`. With numba installed layers are compiled: all affine ones
run in one call, and so does a step of a sequence.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vdcore.backends.sparse.file import load_layers
from vdcore.backends.sparse.images import Convolution, Flatten, Pooling
from vdcore.backends.sparse.layer import Activation, Layer, Stage
from vdcore.backends.sparse.model import SparseModel
from vdcore.backends.sparse.recurrent import SparseRecurrentModel
from vdcore.backends.sparse.recurrent_layers import Embedding, Recurrent
from vdcore.backends.sparse.sequence import is_recurrent

if TYPE_CHECKING:
    from vdcore.link import Link
    from vdcore.recording import Shape

__all__ = [
    "Activation",
    "Convolution",
    "Embedding",
    "Flatten",
    "Layer",
    "Pooling",
    "Recurrent",
    "SparseModel",
    "SparseRecurrentModel",
    "load",
    "to_cpu_sparse",
]


def load(
    path: str | os.PathLike[str],
    *,
    batch_size: int = 16,
    threads: int | None = None,
    formats: str | Sequence[str] | None = None,
) -> SparseModel | SparseRecurrentModel:
    """Read a model that a sparse model's ``save`` wrote. Needs NumPy and SciPy only.

    Parameters
    ----------
    path : path
    batch_size, threads, formats
        See :class:`SparseModel`. A model of sequences has no `batch_size`.

    Returns
    -------
    SparseModel, or SparseRecurrentModel
        As what was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IsADirectoryError
        If `path` is a folder.
    FileFormatError
        A ValueError, if the file is not a sparse model, or damaged.
    """
    layers, in_shape = load_layers(path)
    return _model(layers, in_shape, batch_size, threads, formats)


def to_cpu_sparse(
    model: Link,
    in_shape: Shape = None,
    *,
    batch_size: int = 16,
    threads: int | None = None,
    formats: str | Sequence[str] | None = None,
) -> SparseModel | SparseRecurrentModel:
    """A sparse model that answers as `model` does in evaluation.

    Variational layers keep the mean weights whose log alpha is at most the layer's
    threshold; plain layers keep all that are not 0. Batch normalisation goes into the
    weights of the layer before it, where there is one with nothing between. Weights
    become float32.

    Parameters
    ----------
    model : Link
        Its forward may run linear and convolution layers, in nested chains too, with
        batch normalisation, pooling, dropout, relu, tanh, sigmoid, softmax (at the end)
        and flatten between them, one after the other. Or a network of sequences: an
        embedding (or none), recurrent layers, linear ones after ``functions.rows``.
        Or a torch module; see :func:`vdcore.backends.torch_backend.to_chain`.
    in_shape : tuple of int, optional
        Shape of one input example, such as (1, 28, 28). For models of images, and for a
        forward that asks for its input's shape.
    batch_size, threads, formats
        See :class:`SparseModel`. With ``formats="dense"`` it is the smaller dense
        network that is left without pruned channels and units. A model of sequences has
        no `batch_size`.

    Returns
    -------
    SparseModel
        Or SparseRecurrentModel, of a model with an embedding or a recurrent layer.

    Raises
    ------
    TypeError
        If the model computes anything else; the text names the link.
    ValueError
        If a weight is not finite, layers do not fit together, or `in_shape` is needed.
    RuntimeError
        If the shape of a layer is not known yet.
    """
    if any(cls.__module__.partition(".")[0] == "torch" for cls in type(model).__mro__):
        from vdcore.backends.pytorch.chain import to_chain

        model = to_chain(model, in_shape)
    from vdcore.backends.sparse.export import layers_of

    layers, in_shape = layers_of(model, in_shape)
    return _model(layers, in_shape, batch_size, threads, formats)


def _model(
    layers: Sequence[Stage],
    in_shape: Shape,
    batch_size: int,
    threads: int | None,
    formats: Any,
) -> SparseModel | SparseRecurrentModel:
    if is_recurrent(layers):
        return SparseRecurrentModel(layers, threads=threads, formats=formats)
    return SparseModel(
        layers, in_shape, batch_size=batch_size, threads=threads, formats=formats
    )
