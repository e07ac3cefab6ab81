"""Torch LSTM with a Gaussian posterior on its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdcore.backends.pytorch.noisy_product import LinearProduct, noisy_product
from vdcore.backends.pytorch.variational_module import VariationalModule, check_input
from vdcore.links.variational_rules import check_rule

State = tuple[Tensor, Tensor]


class LSTMVD(VariationalModule, nn.LSTM):
    """``nn.LSTM`` trained by sparse variational dropout.

    Its weights ``weight_ih_l0``, ``weight_hh_l0`` and so on have log variances
    ``log_sigma2_ih_l0``, ``log_sigma2_hh_l0`` and so on; biases have none.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, \
proj_size, device, dtype
        As of ``torch.nn.LSTM``.
    noise : {"weights", "activations"}
        "weights": one draw of all weights for a call, shared by the batch and by all
        steps, so that a sequence is run by one network at the plain layer's speed
        (Chirkova, Lobacheva and Vetrov 2018). "activations": local reparameterisation,
        noise of its own for each example and step (Molchanov et al. 2017), step by
        step; not for packed sequences.
    **options
        `threshold`, `initial_log_sigma2`, `kl`, `clip`, `mask_in_training` and
        `generator`, as of :class:`LinearVD`.

    Raises
    ------
    ValueError, TypeError
        As of ``torch.nn.LSTM`` and :class:`LinearVD`; ValueError if `noise` is unknown.
    """

    dense_class = nn.LSTM
    noise: str
    _flat_weights: list[Any]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        **options: Any,
    ) -> None:
        nn.LSTM.__init__(
            self, input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, device, dtype,
        )  # fmt: skip
        self.become_variational(**options)

    @property
    def weight_names(self) -> Sequence[str]:
        """Names of the weights: of inputs, hidden states and projections."""
        return [name for name in self._parameters if name.startswith("weight_")]

    def become_variational(self, *, noise: str = "weights", **options: Any) -> None:
        """Add the log variances to a layer that has its weights already."""
        check_rule(type(self).__name__, noise)
        super().become_variational(**options)
        self.noise = noise

    def become_dense(self) -> None:
        """Become the plain layer that answers as this one does in evaluation."""
        super().become_dense()
        del self.noise

    def forward(self, input: Any, hx: State | None = None) -> Any:
        """Run a sequence; arguments and results as of ``torch.nn.LSTM``."""
        packed = isinstance(input, nn.utils.rnn.PackedSequence)
        first = self.weight_ih_l0
        check_input(type(self).__name__, input.data if packed else input, first)
        for argument, state in zip(
            ("h_0", "c_0"), () if hx is None else hx, strict=False
        ):
            check_input(type(self).__name__, state, first, argument)
        if self.training and self.noise == "activations":
            if packed:
                message = (
                    f"{type(self).__name__}: `input` must be a padded tensor with "
                    'noise="activations", got a PackedSequence; use noise="weights"'
                )
                raise TypeError(message)
            return self._run_by_steps(input, hx)
        plain = self._flat_weights
        # What nn.LSTM hands to its kernel; its own checks are made all the same.
        self._flat_weights = [
            self.sampled(name) if name.startswith("weight_") else getattr(self, name)
            for name in self._flat_weights_names
        ]
        try:
            return nn.LSTM.forward(self, input, hx)
        finally:
            self._flat_weights = plain

    def _run_by_steps(self, x: Tensor, hx: State | None) -> tuple[Tensor, State]:
        batched = x.dim() == 3
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        directions = 2 if self.bidirectional else 1
        count, batch = self.num_layers * directions, x.shape[1]
        if hx is None:
            hx = (
                x.new_zeros(count, batch, self.proj_size or self.hidden_size),
                x.new_zeros(count, batch, self.hidden_size),
            )
        elif not batched:
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        self.check_forward_args(x.transpose(0, 1) if self.batch_first else x, hx, None)
        states = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout)
            outputs = []
            for direction in range(directions):
                place = layer * directions + direction
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                steps = x.flip(0) if direction else x
                y, state = self._direction(steps, hx[0][place], hx[1][place], suffix)
                outputs.append(y.flip(0) if direction else y)
                states.append(state)
            x = torch.cat(outputs, -1)
        h, c = (torch.stack(parts) for parts in zip(*states, strict=True))
        if not batched:
            return x.squeeze(1), (h.squeeze(1), c.squeeze(1))
        return (x.transpose(0, 1) if self.batch_first else x), (h, c)

    def _direction(
        self, x: Tensor, h: Tensor, c: Tensor, suffix: str
    ) -> tuple[Tensor, State]:
        steps = self._noisy(x.flatten(0, 1), "ih" + suffix).view(*x.shape[:2], -1)
        outputs = []
        for step in steps:
            gates = step + self._noisy(h, "hh" + suffix)
            i, f, g, o = gates.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            if self.proj_size:
                h = self._noisy(h, "hr" + suffix)
            outputs.append(h)
        return torch.stack(outputs), (h, c)

    def _noisy(self, x: Tensor, name: str) -> Tensor:
        weight, log_sigma2 = self.posterior(f"weight_{name}")
        bias = getattr(self, f"bias_{name}", None) if self.bias else None
        return noisy_product(
            x,
            weight,
            log_sigma2,
            bias,
            self.training_threshold,
            LinearProduct(),
            self.generator,
        )
