"""The KL term in torch: values, gradients, what is kept, and the objective."""

from __future__ import annotations

import numpy
import pytest
from scipy.special import dawsn

from vdcore import links as L

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

import vdcore.backends.numpy_backend as numpy_backend  # noqa: E402
from vdcore.backends import torch_backend as vd  # noqa: E402
from vdcore.backends.pytorch import divergence as d  # noqa: E402

# log alpha: equation 14, the true divergence, and its slope (by mpmath, 30 digits).
REFERENCE = {
    -8: (4.635899480, 4.635013607, -0.50016790),
    -2: (1.540532741, 1.544154645, -0.61123428),
    0: (0.431238951, 0.426685604, -0.36238923),
    3: (0.025420043, 0.024688335, -0.02448449),
}


@pytest.mark.parametrize("log_alpha", REFERENCE)
@pytest.mark.parametrize("kl", ["molchanov", "exact"])
def test_values_are_the_published_ones(log_alpha, kl):
    weight = torch.ones(1, 1, dtype=torch.float64)
    log_sigma2 = torch.full_like(weight, log_alpha).requires_grad_()
    value = d.divergence(weight, log_sigma2, kl=kl)
    expected = REFERENCE[log_alpha][kl == "exact"]
    assert value.item() == pytest.approx(expected, abs=1e-7)
    if kl == "exact":
        value.backward()
        root = numpy.exp(-log_alpha / 2) / numpy.sqrt(2)
        assert log_sigma2.grad.item() == pytest.approx(-root * dawsn(root), abs=1e-7)
        assert log_sigma2.grad.item() == pytest.approx(
            REFERENCE[log_alpha][2], abs=1e-7
        )


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kl", ["molchanov", "exact"])
@pytest.mark.parametrize("threshold", [None, 3.0])
@pytest.mark.parametrize("row", [None, 2])
def test_sum_and_gradients_are_those_of_the_composition(
    compiled, dtype, kl, threshold, row, monkeypatch
):
    if not compiled:
        monkeypatch.setattr(numpy_backend, "COMPILED", False)
    torch.manual_seed(0)
    weight = torch.randn(7, 50, dtype=dtype).requires_grad_()
    log_sigma2 = torch.empty(7, 50, dtype=dtype).uniform_(-12, 6).requires_grad_()
    options = d._Options(kl, 8.0, threshold, row)
    ours = d.divergence(weight, log_sigma2, **options._asdict())
    expected = d._composed(weight, log_sigma2, options)
    pair = [
        torch.autograd.grad(value, [weight, log_sigma2]) for value in (ours, expected)
    ]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=0)
    for gradient, other in zip(*pair, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(gradient, other, rtol=0, atol=tolerance * scale)
        if row is not None:
            assert bool((gradient[row] == 0).all())


def test_gradient_is_that_of_a_difference():
    torch.manual_seed(1)
    point = [torch.randn(5, 6, dtype=torch.float64) for _ in range(2)]
    way = [torch.randn(5, 6, dtype=torch.float64) for _ in range(2)]
    step = 1e-6
    ends = [
        float(
            d.divergence(
                *(p + sign * step * w for p, w in zip(point, way, strict=True))
            )
        )
        for sign in (1, -1)
    ]
    inputs = [p.requires_grad_() for p in point]
    gradients = torch.autograd.grad(3 * d.divergence(*inputs), inputs)
    slope = sum(float((g * w).sum()) for g, w in zip(gradients, way, strict=True))
    assert slope == pytest.approx(3 * (ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_nothing_is_kept_but_the_parameters():
    layer = vd.LinearVD(30, 20)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.data_ptr()) or x, lambda x: x
    ):
        layer.kl_divergence()
    assert set(kept) <= {layer.weight.data_ptr(), layer.log_sigma2.data_ptr()}


def test_kl_is_that_of_our_own_layer():
    layer = vd.LinearVD(40, 30, initial_log_sigma2=-4.0)
    link = L.VariationalDropoutLinear(40, 30, initialW=layer.weight.detach().numpy())
    link.log_sigma2.array = layer.log_sigma2.detach().numpy()
    assert layer.kl_divergence().item() == pytest.approx(
        float(link.untraced_penalty(1.0).value), rel=1e-6
    )


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = vd.LinearVD(4, 4), vd.LinearVD(4, 4)
        self.second.weight = self.first.weight


def test_shared_weights_count_once():
    tied = Tied()
    with pytest.raises(ValueError, match="`first` and `second` share their weight"):
        vd.kl_divergence(tied)
    tied.second.log_sigma2 = tied.first.log_sigma2
    assert vd.kl_divergence(tied).item() == tied.first.kl_divergence().item()
    size = vd.sparsity_report(tied)
    assert size.weights == 16
    assert size.others + sum(layer.others for layer in size.layers) == 8  # biases


def test_objective_is_the_loss_and_a_share_of_the_kl():
    network = nn.Sequential(vd.LinearVD(4, 8), nn.ReLU(), vd.LinearVD(8, 3))
    x, t = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    y = network(x)
    loss = nn.functional.cross_entropy(y, t).item()
    kl = sum(layer.kl_divergence().item() for layer in (network[0], network[2]))
    criterion = vd.ELBOLoss(network, nn.functional.cross_entropy, n_train=1000)
    assert criterion(y, t).item() == pytest.approx(loss + kl / 1000, rel=1e-5)
    value = criterion(y, t, loss_weight=2, kl_weight=0.1)
    assert value.item() == pytest.approx(2 * loss + 0.1 * kl / 1000, rel=1e-5)
    value.backward()
    assert all(bool((p.grad != 0).any()) for p in network.parameters())


@pytest.mark.parametrize(
    ("n_train", "error"), [("60000", TypeError), (True, TypeError), (0, ValueError)]
)
def test_number_of_examples_is_checked(n_train, error):
    with pytest.raises(error, match=r"ELBOLoss: `n_train` must be .*pass len"):
        vd.ELBOLoss(nn.Linear(1, 1), nn.functional.mse_loss, n_train)


@pytest.mark.parametrize("function", [vd.kl_divergence, vd.sparsity_report, vd.prune_])
def test_a_plain_network_is_refused(function):
    with pytest.raises(RuntimeError, match="there is no variational layer in this Seq"):
        function(nn.Sequential(nn.Linear(2, 2)))


def test_thresholds_that_differ_are_not_counted_together():
    network = nn.Sequential(vd.LinearVD(2, 2), vd.LinearVD(2, 2, threshold=2))
    with pytest.raises(ValueError, match=r"one threshold.* got \[2.0, 3.0\]"):
        vd.sparsity_report(network)
