"""torch.compile traces the layers and the objective whole, and agrees with eager."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from vdcore.backends import torch_backend as vd  # noqa: E402

# torch.compile's own doing, which the suite would turn into errors.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*Function.* should not be instantiated"),
]


def compared(network, x, t, loss, **options):
    """Losses and gradients without noise to speak of: eager, and compiled."""
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, **options)):
        network.zero_grad()
        value = function(x, t)
        value.backward()
        results.append(
            [value.detach(), *(p.grad.clone() for p in network.parameters())]
        )
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-3)


def test_all_layers_are_traced_without_a_break():
    torch.manual_seed(0)
    quiet = {"initial_log_sigma2": -40.0, "clip": None}
    network = nn.Sequential(
        vd.EmbeddingVD(5, 8, padding_idx=0, **quiet),
        vd.Conv1dVD(6, 6, 3, padding="same", mask_in_training=True, **quiet),
        nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True),
        nn.Flatten(),
        vd.LinearVD(48, 3, kl="exact", **quiet),
    )
    vd.convert(network, **quiet)
    criterion = vd.ELBOLoss(network, F.cross_entropy, n_train=1000)
    x, t = torch.randint(0, 5, (4, 6)), torch.tensor([0, 1, 2, 0])
    compared(network, x, t, lambda x, t: criterion(network(x), t), backend="aot_eager")
    network.eval()
    y = torch.compile(network, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler on a CPU",
)
def test_compiled_layer_under_autocast():
    torch.manual_seed(1)
    layer = vd.LinearVD(6, 3)

    def loss(x, t):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        return F.cross_entropy(y.float(), t) + layer.kl_divergence() / 100

    x, t = torch.randn(8, 6), torch.randint(0, 3, (8,))
    step = torch.compile(loss, fullgraph=True)
    step(x, t).backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())
    losses = torch.stack([step(x, t).detach() for _ in range(50)])
    expected = torch.stack([loss(x, t).detach() for _ in range(50)])
    assert losses.std() > 0  # noise of its own each time
    assert losses.mean().item() == pytest.approx(expected.mean().item(), rel=0.02)
