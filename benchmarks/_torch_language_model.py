"""The language model of the PTB example in torch, dense and with sparse VD: the rival.

The mathematics is that of vdcore's layers: of the weights of an LSTM one draw for a
window, of a word's vector one draw for all its places, and local reparameterisation in
the softmax layer. The steps of an LSTM are torch's own, `torch.lstm`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from _torch_networks import Variational, VariationalLinear
from torch import Tensor, nn


class VariationalWeights(Variational):
    """Weights of which a call takes one draw."""

    def product(self, x: Tensor, W: Tensor, b: Tensor | None = None) -> Tensor:
        return F.linear(x, W, b)

    def draw(self) -> Tensor:
        """The means in evaluation."""
        return drawn(self.W, self.log_sigma2) if self.training else self.W


def drawn(W: Tensor, log_sigma2: Tensor) -> Tensor:
    """``W + sigma * noise``."""
    return W + (log_sigma2 * 0.5).exp() * torch.randn_like(W)


class VariationalEmbedding(VariationalWeights):
    """In the place of ``nn.Embedding``."""

    def forward(self, ids: Tensor) -> Tensor:
        if not self.training:
            return F.embedding(ids, self.W)
        words, places = ids.unique(return_inverse=True)
        rows = drawn(F.embedding(words, self.W), F.embedding(words, self.log_sigma2))
        return F.embedding(places, rows)


class VariationalLSTM(nn.Module):
    """In the place of ``nn.LSTM``."""

    def __init__(self, size: int, units: int) -> None:
        super().__init__()
        self.upward = VariationalWeights((4 * units, size), bias=True)
        self.lateral = VariationalWeights((4 * units, units), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        W, V, b = self.upward.draw(), self.lateral.draw(), self.upward.b
        h = x.new_zeros(1, x.shape[1], V.shape[1])
        weights = [W, V, b, torch.zeros_like(b)]
        return torch.lstm(x, (h, h), weights, True, 1, 0.0, True, False, False)[0]


class LanguageModel(nn.Module):
    """Embedding, two LSTMs and a softmax layer."""

    def __init__(self, words: int, units: int, variational: bool) -> None:
        super().__init__()
        self.embed: nn.Module
        if variational:
            self.embed = VariationalEmbedding((words, units), bias=False)
            self.l1, self.l2 = (VariationalLSTM(units, units) for _ in range(2))
            self.l3 = VariationalLinear(units, words)
        else:
            self.embed = nn.Embedding(words, units)
            self.l1, self.l2 = (nn.LSTM(units, units) for _ in range(2))
            self.l3 = nn.Linear(units, words)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, shape (time * batch, words), of words (time, batch)."""
        h = self.embed(x)
        for layer in (self.l1, self.l2):
            h = layer(h)
            h = h if isinstance(h, Tensor) else h[0]
        return self.l3(h.flatten(0, 1))

    def variational_layers(self) -> list[Variational]:
        """In the order of the network."""
        return [layer for layer in self.modules() if isinstance(layer, Variational)]


def objective(model: LanguageModel, num_examples: int) -> Callable[..., Tensor]:
    """Mean cross-entropy + summed KL of the variational layers / `num_examples`."""

    def loss(x: Tensor, t: Tensor) -> Tensor:
        value = F.cross_entropy(model(x), t.flatten())
        layers = model.variational_layers()
        if layers:
            value = value + sum(layer.kl() for layer in layers) / num_examples
        return value

    return loss


def training_step(
    model: LanguageModel,
    num_examples: int,
    x: Tensor,
    t: Tensor,
    *,
    fused: bool,
    compiled: bool,
) -> Callable[[], None]:
    """One step of Adam on a window, as a function of no arguments."""
    loss = objective(model, num_examples)
    if compiled:
        loss = torch.compile(loss)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

    def step() -> None:
        optimizer.zero_grad()
        loss(x, t).backward()
        optimizer.step()

    return step
