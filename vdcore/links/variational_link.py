"""What all links with a Gaussian posterior on their weights have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy

from vdcore import functions as F
from vdcore import initializers, kernels, variational
from vdcore.arrays import Array, array_namespace, untraced
from vdcore.autodiff import attach_gradients
from vdcore.configuration import config, spawn_rng
from vdcore.functions.variational import sparse_vd_penalty
from vdcore.link import Link
from vdcore.parameter import Parameter
from vdcore.serializers import generator_state, restore_generator
from vdcore.variational.pruning import THRESHOLD

if TYPE_CHECKING:
    from vdcore.backends.sparse_backend import SparseModel, SparseRecurrentModel

LOG_ALPHA_CLIP = 8.0  # of the authors' code and the Chainer original
INITIAL_LOG_SIGMA2 = -10.0  # likewise


class Multiplied(NamedTuple):
    """How the weights of a layer and a group's multipliers belong together.

    Attributes
    ----------
    scale : VariationalDropoutScale
    axis : int
        Axis of the weights along which each multiplier has a slice.
    blocks : int
        So many blocks of slices, such as gates, have the same multipliers.
    is_factor : bool
        Whether the slices are multiplied. Otherwise what they compute is, somewhere
        else, and they are useless where it is multiplied by 0.
    """

    scale: VariationalLink
    axis: int
    blocks: int = 1
    is_factor: bool = True

    def spread(self, values: Array, weights: Array) -> Array:
        """A value of each multiplier, of a shape that goes with the weights."""
        xp = array_namespace(values)
        shape = [1] * len(weights.shape)
        shape[self.axis] = -1
        return xp.reshape(xp.tile(values, (self.blocks,)), tuple(shape))


class VariationalLink(Link):
    """Mix-in for links whose weights `W` have log variances `log_sigma2`.

    Attributes
    ----------
    W, log_sigma2 : Parameter
    loga_threshold : float
        Weights with log alpha above it are noise: they are left out at test time, in
        statistics, in the sparse export, and while `mask_in_training` is set.
    mask_in_training : bool
        Whether those weights are masked in training too. A masked weight has no
        gradient, so it does not come back.
    kl : {"molchanov", "exact"}
    clip : float or None
        Limit of log alpha in the KL term.
    rng : numpy.random.Generator
        Source of the noise.
    is_variational_dropout : bool
        True: the original's flag, for code that asks any link for it.
    multiplied : tuple of Multiplied
        Multipliers of groups of the weights.
    """

    is_variational_dropout = True
    is_weighted = True  # or multiplies what weights compute, and is not counted
    multiplied: tuple[Multiplied, ...] = ()
    groups: int = 1  # runs of outputs, each with weights of its own run of inputs

    W: Parameter
    b: Any  # a Parameter, or None
    log_sigma2: Parameter

    def _setup_variational(
        self,
        p_threshold: float | None,
        loga_threshold: float | None,
        initial_log_sigma2: Any,
        mask_in_training: bool,
        kl: str,
        clip: float | None,
        rng: numpy.random.Generator | None,
    ) -> None:
        name = type(self).__name__
        self.loga_threshold = _threshold(name, p_threshold, loga_threshold)
        if clip is not None and not clip > abs(self.loga_threshold):
            message = (
                f"{name}: `clip` must be above `loga_threshold`, "
                f"{self.loga_threshold:g}, or no weight could reach it; got {clip!r}"
            )
            raise ValueError(message)
        if kl not in kernels.KL:
            known = ", ".join(repr(key) for key in kernels.KL)
            message = f"{name}: `kl` must be one of {known}; got {kl!r}"
            raise ValueError(message)
        self.mask_in_training = mask_in_training
        self.kl = kl
        self.clip = clip
        self.rng = spawn_rng() if rng is None else rng
        with self.init_scope():
            self.log_sigma2 = Parameter(
                initializers.get_initializer(
                    initial_log_sigma2,
                    initializers.Constant(INITIAL_LOG_SIGMA2, self.W.initializer.dtype),
                ),
                decays=False,
            )

    def initialize_params(self, in_size: int, like: Array | None = None) -> None:
        """Make the parameters whose shape depends on the input's size."""
        super().initialize_params(in_size, like)  # type: ignore[misc]
        if not self.log_sigma2.is_initialized:
            self.log_sigma2.initialize(self.W.array.shape, like)

    def take_weights(self, link: Any, in_size: int | None) -> None:
        """Copy weights and bias of the plain layer that this one is to replace."""
        if in_size is not None:
            self.initialize_params(in_size, like=link.W.array)
            self.W.array = link.W.array + 0
        if link.b is not None:
            self.b.array = link.b.array + 0

    @property
    def training_threshold(self) -> float | None:
        """Threshold of the masks in training, None without them."""
        return self.loga_threshold if self.mask_in_training else None

    def check_shape_is_known(self, operation: str) -> None:
        """Raise RuntimeError if the layer was given no input size and had no batch."""
        if not self.W.is_initialized:
            name = self.name or type(self).__name__
            message = (
                f"{operation}: the shape of layer {name!r} is not known yet; call the "
                "model on one batch first"
            )
            raise RuntimeError(message)

    def log_alpha(self) -> Array:
        """Log alpha of every weight, shape of `W`."""
        self.check_shape_is_known("log_alpha")
        return variational.log_alpha(
            untraced(self.W.array), untraced(self.log_sigma2.array)
        )

    def keep_mask(self) -> Array:
        """Mask of the weights that count, shape of `W`.

        Not those of a group that is left out as a whole.
        """
        keep = variational.keep_mask(self.log_alpha(), self.loga_threshold)
        for group in self.multiplied:
            keep = keep & group.spread(group.scale.keep_mask(), keep)
        return keep

    def masked_W(self) -> Array:
        """Posterior means with the noise weights at 0: the weights of test time."""
        self.check_shape_is_known("masked_W")
        W = untraced(self.W.array)
        xp = array_namespace(W)
        return xp.where(self.keep_mask(), W, xp.zeros_like(W))

    def sample_W(self) -> Array:
        """Weights of one call: a draw in training, :meth:`masked_W` otherwise.

        All outputs share the draw. To give each noise of its own, as most layers do,
        has the smaller variance; a recurrent layer would need new weights each step.
        """
        if not config.train:
            return self.masked_W()
        self.check_shape_is_known("sample_W")
        W = self.W.array
        noise = self.draw_noise(tuple(W.shape), like=W)
        return F.sample_weights(
            W, self.log_sigma2.array, noise, self.training_threshold
        )

    def penalty(self, scale: float) -> tuple[Array, kernels.Penalty]:
        """Scaled KL of the weights; see :func:`vdcore.functions.sparse_vd_kl`."""
        penalty = self.untraced_penalty(scale)
        inputs = [self.W.array, self.log_sigma2.array]
        gradients = [penalty.theta_gradient, penalty.log_sigma2_gradient]
        return attach_gradients(penalty.value * scale, inputs, gradients), penalty

    def untraced_penalty(
        self, scale: float, threshold: float | None = None
    ) -> kernels.Penalty:
        """The value of :meth:`penalty`, its gradients and statistics, off the tape.

        Parameters
        ----------
        scale : float
            Factor of the gradients.
        threshold : float, optional
            Of what counts as kept; default the layer's own.
        """
        self.check_shape_is_known("penalty")
        return sparse_vd_penalty(
            "penalty",
            self.W.array,
            self.log_sigma2.array,
            threshold=self.loga_threshold if threshold is None else threshold,
            masked=self.mask_in_training,
            kl=self.kl,
            clip=self.clip,
            scale=scale,
        )

    def layer_size(self, name: str) -> variational.LayerSize:
        """Counts of what pruning leaves; see :func:`vdcore.variational.layer_size`."""
        self.check_shape_is_known("size")
        W = untraced(self.W.array)
        own = (getattr(self, name) for name in self._parameter_names)
        total = sum(math.prod(p.array.shape) for p in own)
        return variational.layer_size(
            name,
            self._by_output(self.keep_mask()),
            self._by_output(W),
            self._by_output(untraced(self.log_sigma2.array)),
            others=total - 2 * math.prod(W.shape),
            groups=self.groups,
        )

    def _by_output(self, weights: Array) -> Array:
        """Weights as (outputs, inputs, ...)."""
        return weights

    def get_sparse_cpu_model(
        self, in_shape: tuple[int, ...] | None = None, **options: Any
    ) -> SparseModel | SparseRecurrentModel:
        """Return this layer alone as a sparse model for inference on the CPU.

        See :func:`vdcore.backends.sparse_backend.to_cpu_sparse`.
        """
        from vdcore.backends.sparse_backend import to_cpu_sparse

        return to_cpu_sparse(self, in_shape, **options)

    def draw_noise(self, shape: tuple[int, ...], like: Array) -> Array:
        """Standard normal draws, of the library, device and dtype of `like`."""
        return kernels.standard_normal(untraced(like), self.rng, shape)

    def draw_row_noise(self, rows: Array, size: int) -> Array:
        """Standard normal draws for rows of a table, shape (*rows.shape, size).

        Places with the same number share a draw.
        """
        # Not as many as there are rows: that number a GPU would have to be waited for.
        draws = self.draw_noise((math.prod(rows.shape), size), like=self.W.array)
        xp = array_namespace(rows)
        flat = xp.reshape(rows, (-1,))
        place = xp.searchsorted(xp.sort(flat), flat)  # the first of the number's
        return xp.reshape(xp.take(draws, place, axis=0), (*rows.shape, size))

    def serialize_training_state(self, serializer: Any) -> None:
        """Read or write the state of the generator and whether masks are on."""
        state = serializer("rng", generator_state(self.rng))
        restore_generator(self.rng, state)
        self.mask_in_training = serializer("mask_in_training", self.mask_in_training)
        super().serialize_training_state(serializer)


def _threshold(
    name: str, p_threshold: float | None, loga_threshold: float | None
) -> float:
    """One threshold on log alpha from either of the original's two arguments."""
    if p_threshold is None:
        return THRESHOLD if loga_threshold is None else float(loga_threshold)
    if not 0 < p_threshold < 1:
        message = f"{name}: `p_threshold` must lie in (0, 1), got {p_threshold!r}"
        raise ValueError(message)
    if loga_threshold is not None:
        message = (
            f"{name}: give `p_threshold` or `loga_threshold`, not both; a dropout rate "
            f"p is the same as log alpha = log(p / (1 - p)), here "
            f"{math.log(p_threshold / (1 - p_threshold)):.4f}"
        )
        raise ValueError(message)
    return math.log(p_threshold / (1 - p_threshold))
