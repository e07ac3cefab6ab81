"""A script for pytorch_ard 0.2.4 runs when its import is changed."""

from __future__ import annotations

import numpy
import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from vdcore.backends import torch_backend as nn_ard  # noqa: E402

# The usage section of that package's README, but for its first line.
README = """
from torch import nn
import torch.nn.functional as F

input_size, hidden_size, output_size = 60, 150, 1

model = nn.Sequential(
    nn_ard.LinearARD(input_size, hidden_size),
    nn.ReLU(),
    nn_ard.LinearARD(hidden_size, output_size)
)


criterion = nn_ard.ELBOLoss(model, F.cross_entropy)
print('Sparsification ratio: %.3f%%' % (100.*nn_ard.get_dropped_params_ratio(model)))

# test stage
model.eval() # Needed for speed-up
model(input)
"""


def test_readme_example_runs(capsys):
    torch.manual_seed(0)
    session = {"nn_ard": nn_ard, "input": torch.randn(7, 60)}
    exec(README, session)
    printed = capsys.readouterr().out
    # N(0, 0.02) below exp(-6.5): 6 % of the weights.
    assert float(printed.split()[-1].rstrip("%")) == pytest.approx(6, abs=1)
    y = session["model"].train()(session["input"])
    loss = session["criterion"](y, torch.zeros(7, dtype=torch.int64), 1, 0.5)
    expected = 0.5 * nn_ard.get_ard_reg(session["model"])  # one class: entropy 0
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_arguments_and_methods_have_the_spelling():
    layer = nn_ard.LinearARD(4, 3, True, 2.5, -4)
    assert (layer.thresh, layer.ard_init) == (2.5, -4)
    layer.thresh = 2.0
    assert layer.threshold == 2.0
    convolution = nn_ard.Conv2dARD(2, 3, 3, 1, 1, 1, 1, -4, 2)
    assert convolution.bias is None
    assert convolution(torch.randn(1, 2, 5, 5)).shape == (1, 3, 5, 5)
    for own in (layer, convolution):
        dropped = own.get_clip_mask()
        log_alpha = own.log_sigma2 - 2 * own.weight.abs().log()
        assert torch.equal(dropped, log_alpha >= 2)
        assert torch.equal(own.weights_clipped == 0, dropped)
        assert own.get_dropped_params_cnt() == int(dropped.sum())
        torch.testing.assert_close(own.log_alpha, log_alpha.detach(), rtol=0, atol=0.1)
        torch.testing.assert_close(own.get_reg(), own.kl_divergence())
    network = nn.ModuleList([layer, convolution])
    total = layer.get_dropped_params_cnt() + convolution.get_dropped_params_cnt()
    ratio = nn_ard.get_dropped_params_ratio(network)
    assert ratio == pytest.approx(total / (12 + 54))


def test_kl_is_that_of_the_original():
    # 0.5 log1p(1/alpha) + k1 (1 - sigmoid(k2 + k3 la)), summed: its own formula.
    layer = nn_ard.LinearARD(5, 4, ard_init=-6)
    log_alpha = layer.log_sigma2.detach() - 2 * layer.weight.detach().abs().log()
    la = log_alpha.clamp(-8, 8).double().numpy()
    expected = 0.5 * numpy.log1p(numpy.exp(-la))
    expected += 0.63576 * (1 - 1 / (1 + numpy.exp(-1.8732 - 1.48695 * la)))
    assert layer.get_reg().item() == pytest.approx(expected.sum(), rel=1e-4)


def test_a_convolution_has_a_bias_without_nan():
    layer = nn_ard.Conv2dARD(1, 2, 3, bias=True)
    with torch.no_grad():
        layer.bias.fill_(-5.0)  # its square root is what was NaN
    assert bool(layer(torch.randn(2, 1, 5, 5)).isfinite().all())


def test_networks_without_such_layers():
    plain = nn.Linear(2, 2)
    assert nn_ard.get_ard_reg(plain).item() == 0
    with pytest.raises(RuntimeError, match=r"get_dropped_params_ratio: there is no"):
        nn_ard.get_dropped_params_ratio(plain)
    with pytest.raises(RuntimeError, match=r"kl_divergence: there is no"):
        nn_ard.ELBOLoss(plain, F.mse_loss)(torch.ones(2), torch.ones(2))
