"""Fully connected torch layer with a Gaussian posterior on its weights."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vdcore.backends.pytorch.noisy_product import LinearProduct, noisy_product
from vdcore.backends.pytorch.variational_module import VariationalModule, check_input


class LinearVD(VariationalModule, nn.Linear):
    """``nn.Linear`` trained by sparse variational dropout.

    In training the output is sampled by local reparameterisation; in evaluation it is
    that of the mean weights with the noise weights left out.

    Parameters
    ----------
    in_features, out_features, bias, device, dtype
        As of ``torch.nn.Linear``.
    threshold : float
        Weights with log alpha above it are noise. Default 3.
    initial_log_sigma2 : float
        First log variance of all weights. Default -10.
    kl : {"molchanov", "exact"}
        Approximate KL of the paper (default), or the exact one.
    clip : float or None
        Limit of log alpha in the KL term. Default 8.
    mask_in_training : bool
        Mask noise weights in training too. Default False; it may be set later.
    generator : torch.Generator, optional
        Source of the noise. Default torch's own.

    Attributes
    ----------
    weight, log_sigma2 : Parameter, shape (out_features, in_features)
        Posterior means and log variances. Let no weight decay act on ``log_sigma2``.
    bias : Parameter, shape (out_features,), or None

    Raises
    ------
    ValueError
        If `threshold` is not finite, `clip` not above it, or `kl` unknown.
    TypeError
        If one of them is no number, or the dtype is not a floating one.

    References
    ----------
    Molchanov, Ashukha, Vetrov, ICML 2017, section 4.
    """

    dense_class = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device, dtype)
        self.become_variational(**options)

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor of shape (..., in_features) to (..., out_features)."""
        name = type(self).__name__
        check_input(name, input, self.weight)
        if input.shape[-1:] != self.weight.shape[1:]:
            message = (
                f"{name}: `input` must have shape (..., {self.in_features}), got "
                f"{tuple(input.shape)}; flatten or transpose it"
            )
            raise ValueError(message)
        if not self.training:
            return F.linear(input, self.masked(), self.bias)
        output = noisy_product(
            input.reshape(-1, self.in_features),
            self.weight,
            self.log_sigma2,
            self.bias,
            self.training_threshold,
            LinearProduct(),
            self.generator,
        )
        return output.view(*input.shape[:-1], self.out_features)
