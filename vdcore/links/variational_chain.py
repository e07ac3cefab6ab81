"""The objective of sparse variational dropout for a whole model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy

from vdcore import functions as F
from vdcore.arrays import Array, array_namespace, check_array, untraced
from vdcore.autodiff import attach_gradients
from vdcore.chain import Chain
from vdcore.configuration import config
from vdcore.links.conversion import to_variational_dropout
from vdcore.links.statistics import named, total_penalty
from vdcore.links.variational_link import VariationalLink
from vdcore.replay import each_time, live
from vdcore.reporter import report
from vdcore.variational.counting import NetworkSize

if TYPE_CHECKING:
    from vdcore.backends.sparse_backend import SparseModel, SparseRecurrentModel
    from vdcore.kernels import TotalPenalty

KL_SCALES = ("elbo", "layer-mean")


class VariationalDropoutChain(Chain):
    """Mix-in that gives a classifier the loss, statistics and export of sparse VD.

    Use it alone, as the base of a model with variational layers, or before a plain
    model's class, and convert that model's layers::

        class MLPVD(L.VariationalDropoutChain, MLP):
            pass

        model = MLPVD(num_examples=60000)
        model.to_variational_dropout()

    Parameters
    ----------
    warm_up : float
        Growth of `kl_coef` with each call of :meth:`calc_loss` in training, from 0 to
        1. 0: `kl_coef` is 1 from the start; set it by
        :class:`vdcore.training.extensions.KLWarmUp` for schedules in epochs.
    num_examples : int, optional
        Training examples N that the KL of all weights is shared between; needed for
        ``kl_scale="elbo"``.
    kl_scale : {"elbo", "layer-mean"}
        "elbo": the objective is the negative evidence lower bound per example, mean
        cross-entropy + ``kl_coef * sum(KL) / N``. "layer-mean": the KL averaged within
        each layer, then summed, as in the Chainer original.
    *args, **kwargs
        For the plain model's class.

    Attributes
    ----------
    kl_coef : float

    Raises
    ------
    ValueError
        If `kl_scale` is unknown or `num_examples` not positive.
    TypeError
        If `num_examples` is no number.
    """

    live_attributes = ("kl_coef",)

    def __init__(
        self,
        *args: Any,
        warm_up: float = 0.0001,
        num_examples: int | None = None,
        kl_scale: str = "elbo",
        **kwargs: Any,
    ) -> None:
        if kl_scale not in KL_SCALES:
            message = (
                f"VariationalDropoutChain: `kl_scale` must be one of {KL_SCALES}, "
                f"got {kl_scale!r}"
            )
            raise ValueError(message)
        if num_examples is not None:
            _check_number(num_examples)
        super().__init__(*args, **kwargs)
        self.warm_up = warm_up
        self.num_examples = num_examples
        self.kl_scale = kl_scale
        self.kl_coef = 0.0 if warm_up else 1.0

    def variational_links(self) -> Iterator[tuple[str, VariationalLink]]:
        """Pairs of path and variational layer, each once."""
        for path, link in self.namedlinks():
            if isinstance(link, VariationalLink):
                yield path, link

    def calc_loss(
        self,
        x: Array,
        t: Array,
        add_kl: bool = True,
        split_loss: bool = False,
        calc_stats: bool = True,
    ) -> Any:
        """Objective on a batch: the ``loss_func`` of a ``StandardUpdater``.

        Parameters
        ----------
        x : array, shape (batch, ...)
        t : array of integers, shape (batch,)
            Class labels. Of a language model with scores of shape (time, batch,
            classes), or of these flattened: shape (time, batch), all averaged.
        add_kl : bool
            Add the KL term.
        split_loss : bool
            Return the two terms instead of their sum.
        calc_stats : bool
            Report mean_p, sparsity and W/Wnz too.

        Returns
        -------
        array, shape (), or a pair of them
            Nats per example: cross-entropy + kl_coef * KL; or (cross-entropy, KL
            without the coefficient) with `split_loss`.

        Raises
        ------
        RuntimeError
            If ``kl_scale`` is "elbo" and `num_examples` is not known.
        ValueError
            If scores and labels have different numbers of steps or examples.

        Notes
        -----
        Reports class, kl, kl_coef, loss, accuracy, mean_p (mean dropout rate), sparsity
        (fraction of noise weights) and W/Wnz (weights over kept ones). Nothing that is
        not a number is hidden: a NaN stays in the loss.
        """
        y, t = _one_batch(self(x), t)
        class_loss = F.softmax_cross_entropy(y, t)
        observation = {"class": class_loss, "accuracy": F.accuracy(y, t)}
        loss = class_loss
        if add_kl or calc_stats:
            total, weighted_kl = self._penalty(add_kl, with_coefficient=not split_loss)
        if add_kl:
            coefficient = live(lambda: self.kl_coef, untraced(class_loss))
            observation |= {"kl": total.value, "kl_coef": coefficient}
            loss = class_loss if split_loss else class_loss + weighted_kl
            if config.train and self.warm_up:
                each_time(self._warm_up)
        if calc_stats:
            observation |= named(total)
        observation["loss"] = (
            class_loss + total.value if split_loss and add_kl else loss
        )
        report({name: untraced(value) for name, value in observation.items()}, self)
        if split_loss:
            return class_loss, weighted_kl if add_kl else 0.0
        return loss

    def size(self) -> NetworkSize:
        """The five size measures of the pruned model; see :class:`NetworkSize`.

        Parameters of links that are not variational count as kept. Multipliers are not
        counted: they are part of the weights of their groups.
        """
        links = list(self._required())
        weighted = [(path, link) for path, link in links if link.is_weighted]
        layers = tuple(link.layer_size(path) for path, link in weighted)
        counted = {id(p) for _, link in links for p in link.params()}
        others = sum(p.array.size for p in self.params() if id(p) not in counted)
        thresholds = {link.loga_threshold for _, link in links}
        if len(thresholds) > 1:
            message = (
                "size: all layers must have one threshold to be counted together, got "
                f"{sorted(thresholds)}"
            )
            raise ValueError(message)
        return NetworkSize(layers, thresholds.pop(), others)

    def set_mask_in_training(self, masked: bool) -> None:
        """Turn masks in training on or off, in all variational layers."""
        for _, link in self.variational_links():
            link.mask_in_training = masked

    def set_noise_trainable(self, trainable: bool) -> None:
        """Train the log variances, or leave them as they are, in all layers."""
        for _, link in self.variational_links():
            link.log_sigma2.trainable = trainable

    def to_variational_dropout(self, **options: Any) -> VariationalDropoutChain:
        """Make the plain layers variational, with the weights they have.

        See :func:`vdcore.links.to_variational_dropout`. Returns self.
        """
        to_variational_dropout(self, **options)
        return self

    def to_cpu_sparse(
        self, in_shape: tuple[int, ...] | None = None, **options: Any
    ) -> SparseModel | SparseRecurrentModel:
        """A sparse model for inference on the CPU, with the noise weights left out.

        See :func:`vdcore.backends.sparse_backend.to_cpu_sparse`.
        """
        from vdcore.backends.sparse_backend import to_cpu_sparse

        return to_cpu_sparse(self, in_shape, **options)

    def serialize_training_state(self, serializer: Any) -> None:
        """Read or write the KL coefficient, and the layers' own state."""
        self.kl_coef = serializer("kl_coef", self.kl_coef)
        super().serialize_training_state(serializer)

    def _required(self) -> Iterator[tuple[str, VariationalLink]]:
        links = list(self.variational_links())
        if not links:
            message = (
                f"{type(self).__name__}: there is no variational layer in this model; "
                "call to_variational_dropout() or build it with variational layers"
            )
            raise RuntimeError(message)
        yield from links

    def _warm_up(self) -> None:
        self.kl_coef = min(1.0, self.kl_coef + self.warm_up)

    def _penalty(
        self, with_gradients: bool, with_coefficient: bool
    ) -> tuple[TotalPenalty, Array]:
        """KL on the scale of the objective with statistics; its weighted traced form.

        Without gradients the statistics alone, which need no scale.
        """

        def factor(scale: float) -> float:
            return self.kl_coef * scale if with_coefficient else scale

        penalties, scales, factors = [], [], []
        inputs, gradients = [], []
        links = sorted(
            (link for _, link in self._required()),
            key=lambda link: not link.is_weighted,
        )
        for link in links:
            scale = self._scale(link) if with_gradients else 0.0
            weight = live(partial(factor, scale), untraced(link.W.array))
            penalty = link.untraced_penalty(weight)
            penalties.append(penalty)
            scales.append(scale)
            factors.append(weight)
            inputs += [link.W.array, link.log_sigma2.array]
            gradients += [penalty.theta_gradient, penalty.log_sigma2_gradient]
        weighted = sum(link.is_weighted for link in links)
        total = total_penalty(penalties, scales, factors, weighted)
        return total, attach_gradients(total.weighted, inputs, gradients)

    def _scale(self, link: VariationalLink) -> float:
        if self.kl_scale == "layer-mean":
            return 1 / link.W.array.size
        if self.num_examples is None:
            message = (
                f"{type(self).__name__}.calc_loss: the number of training examples is "
                "not known, and the evidence lower bound needs it; pass "
                "num_examples=len(train) when you build the model (or "
                'kl_scale="layer-mean")'
            )
            raise RuntimeError(message)
        return 1 / self.num_examples


def _one_batch(y: Array, t: Array) -> tuple[Array, Array]:
    """Scores and labels with all axes before the classes made one."""
    check_array("calc_loss", "t", t)
    shape, labels = tuple(y.shape), tuple(t.shape)
    if len(labels) < 2:
        return y, t
    if len(shape) == len(labels) + 1 and shape[:-1] == labels:
        y = array_namespace(y).reshape(y, (-1, shape[-1]))
    elif len(shape) != 2 or shape[0] != math.prod(labels):
        message = (
            f"calc_loss: scores for `t` of shape {labels} must have that shape and an "
            f"axis of classes, or shape ({math.prod(labels)}, classes), got {shape}"
        )
        raise ValueError(message)
    return y, array_namespace(t).reshape(t, (-1,))


def _check_number(num_examples: Any) -> None:
    is_number = isinstance(num_examples, int | float | numpy.integer | numpy.floating)
    if isinstance(num_examples, bool) or not is_number:
        message = (
            "VariationalDropoutChain: `num_examples` must be the number of training "
            f"examples, got {type(num_examples).__name__}; pass len(train)"
        )
        raise TypeError(message)
    if not num_examples >= 1:
        message = (
            "VariationalDropoutChain: `num_examples` must be positive, "
            f"got {num_examples!r}; pass len(train)"
        )
        raise ValueError(message)
