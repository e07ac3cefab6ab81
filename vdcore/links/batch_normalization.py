"""Batch normalisation with running statistics."""

from __future__ import annotations

from typing import Any

import numpy

from vdcore import functions as F
from vdcore import initializers, kernels
from vdcore.arrays import Array, array_namespace, asarray_like, check_array, untraced
from vdcore.configuration import config
from vdcore.functions.normalization import EPS, normalized_batch, values_per_channel
from vdcore.link import Link
from vdcore.parameter import Parameter


class BatchNormalization(Link):
    """Normalise each channel: by its batch in training, by running statistics after.

    Parameters
    ----------
    size : int or None
        Number of channels. None: taken from the first batch.
    decay : float
        Share of the running statistics that a batch leaves; torch's ``momentum`` is
        ``1 - decay``.
    eps : float
        Added to the variances.
    dtype
        Of parameters and statistics.
    use_gamma, use_beta : bool
        Whether the result is scaled and shifted by parameters, or has standard
        deviation 1 and mean 0.
    initial_gamma : Initializer, number or numpy.ndarray, optional
        Default 1.
    initial_beta : Initializer, number or numpy.ndarray, optional
        Default 0.

    Attributes
    ----------
    gamma, beta : Parameter, shape (size,), or None
    avg_mean, avg_var : array, shape (size,)
        Running mean of the means of the batches, and of their unbiased variances;
        saved with the parameters. None until the size is known.
    N : int
        Batches seen in fine-tuning.
    """

    def __init__(
        self,
        size: int | None = None,
        decay: float = 0.9,
        eps: float = EPS,
        dtype: Any = numpy.float32,
        use_gamma: bool = True,
        use_beta: bool = True,
        initial_gamma: Any = None,
        initial_beta: Any = None,
    ) -> None:
        super().__init__()
        if size is not None and (not isinstance(size, int) or size < 1):
            message = (
                f"BatchNormalization: `size` must be a positive integer or None, got "
                f"{size!r}"
            )
            raise ValueError(message)
        if not 0 <= decay <= 1:
            message = f"BatchNormalization: `decay` must lie in [0, 1], got {decay!r}"
            raise ValueError(message)
        self.decay = decay
        self.eps = eps
        self.dtype = numpy.dtype(dtype)
        self.gamma: Any = None
        self.beta: Any = None
        with self.init_scope():
            if use_gamma:
                self.gamma = Parameter(self._initializer(initial_gamma, 1))
            if use_beta:
                self.beta = Parameter(self._initializer(initial_beta, 0))
        self.avg_mean: Any = None
        self.avg_var: Any = None
        self.N = 0
        for name in ("avg_mean", "avg_var", "N"):
            self.register_persistent(name)
        if size is not None:
            self.initialize_params(size)

    def _initializer(self, value: Any, default: float) -> initializers.Initializer:
        constant = initializers.Constant(default, self.dtype)
        return initializers.get_initializer(value, constant)

    def initialize_params(self, size: int, like: Array | None = None) -> None:
        """Make the parameters and statistics of so many channels."""
        for parameter in self.params():
            if not parameter.is_initialized:
                parameter.initialize((size,), like)
        mean, variance = (numpy.full(size, n, self.dtype) for n in (0, 1))
        self.avg_mean = mean if like is None else asarray_like(mean, like)
        self.avg_var = variance if like is None else asarray_like(variance, like)

    def start_finetuning(self) -> None:
        """Begin to collect plain averages of the statistics, with `finetune`."""
        self.N = 0

    def forward(self, x: Array, *, finetune: bool = False) -> Array:
        """Normalise a batch, shape (batch, size, ...).

        Parameters
        ----------
        x : array
        finetune : bool
            Average the statistics of all batches since :meth:`start_finetuning`, each
            with the same weight, rather than let old ones decay. In training only.
        """
        check_array("BatchNormalization", "x", x)
        if self.avg_mean is None and len(x.shape) > 1:
            self.initialize_params(x.shape[1], like=x)
        gamma, beta = self._array(self.gamma, 1, x), self._array(self.beta, 0, x)
        if not config.train:
            return F.fixed_batch_normalization(
                x, gamma, beta, self.avg_mean, self.avg_var, self.eps
            )
        y, mean, variance = normalized_batch(x, gamma, beta, self.eps)
        self._update_statistics(mean, variance, values_per_channel(x.shape), finetune)
        return y

    def _array(self, parameter: Parameter | None, default: float, x: Array) -> Array:
        if parameter is not None:
            return parameter.array
        like = untraced(x if self.avg_mean is None else self.avg_mean)
        return array_namespace(like).full_like(like, default)

    def _update_statistics(
        self, mean: Array, variance: Array, count: int, finetune: bool
    ) -> None:
        decay = self.decay
        if finetune:
            self.N += 1
            decay = 1 - 1 / self.N
        averages = self.avg_mean, self.avg_var
        correction = count / (count - 1)
        new = kernels.average_statistics(*averages, mean, variance, decay, correction)
        # In place, so that a recorded step finds them where they were.
        for average, values in zip(averages, new, strict=True):
            if values is not average:
                average[...] = values
