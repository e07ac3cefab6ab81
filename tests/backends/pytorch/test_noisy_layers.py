"""Linear and convolution layers: moments, gradients, masks, dtypes, errors."""

from __future__ import annotations

import copy
import math
import pickle

import numpy
import pytest

from vdcore import functions as F
from vdcore import variational

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vdcore.backends import torch_backend as vd  # noqa: E402
from vdcore.backends.pytorch import noisy_product as products  # noqa: E402

WINDOWS = [
    (vd.Conv1dVD, (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 9)),
    (vd.Conv2dVD, (4, 5, (3, 2)), {"padding": "same", "dilation": 2}, (2, 4, 7, 6)),
    (vd.Conv2dVD, (3, 5, 3), {"padding": (1, 2), "padding_mode": "circular"},
     (2, 3, 6, 6)),
    (vd.Conv2dVD, (3, 4, 2), {"padding": "valid", "bias": False}, (2, 3, 5, 4)),
    (vd.Conv3dVD, (2, 3, 2), {"stride": (1, 2, 1), "padding": 1}, (2, 2, 4, 5, 3)),
]  # fmt: skip


def noisy(layer, x, seed=0):
    """A training step's output, with the draws of a seed."""
    layer.generator = torch.Generator().manual_seed(seed)
    return layer.train()(x)


def composition(layer, x, seed=0):
    """The same by torch's own gradients, and the layer's map written by torch."""

    def product(x, weight, bias):
        if isinstance(layer, nn.Linear):
            return nn.functional.linear(x, weight, bias)
        return layer._conv_forward(x, weight, bias)

    weight, sigma2 = layer.weight, layer.log_sigma2.exp()
    if layer.mask_in_training:
        keep = layer.log_sigma2 - (layer.weight**2 + 1e-8).log() <= layer.threshold
        weight, sigma2 = weight * keep, sigma2 * keep
    mean = product(x, weight, layer.bias)
    variance = product(x * x, sigma2, None)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(mean.shape, generator=generator, dtype=x.dtype)
    return mean + (variance + 1e-8).sqrt() * noise


def layer_and_input(cls, sizes, options, shape, masked=False):
    torch.manual_seed(1)
    layer = cls(*sizes, **options, initial_log_sigma2=-3.0, dtype=torch.float64)
    layer.mask_in_training = masked
    return layer, torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "case", [(vd.LinearVD, (6, 5), {}, (3, 2, 6)), *WINDOWS], ids=str
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_output_and_gradients_are_those_of_the_composition(case, masked):
    layer, x = layer_and_input(*case, masked)
    x.requires_grad_()
    inputs = [x, *layer.parameters()]
    results = []
    for function in (noisy, composition):
        y = function(layer, x)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y, *torch.autograd.grad((y * weights).sum(), inputs)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    if masked:
        assert 0 < int((results[0][2] == 0).sum()) < layer.weight.numel()


def test_gradients_are_those_of_differences():
    layer, x = layer_and_input(vd.LinearVD, (4, 3), {}, (2, 4))

    def function(x, *parameters):
        generator = torch.Generator().manual_seed(2)
        weight, bias, log_sigma2 = parameters
        return products.noisy_product(
            x, weight, log_sigma2, bias, None, products.LinearProduct(), generator
        )

    parameters = [layer.weight, layer.bias, layer.log_sigma2]
    assert torch.autograd.gradcheck(function, [x.requires_grad_(), *parameters])


def test_reference_layer():
    # By hand: mean 0.5 - 2 = -1.5, variance 1 e^-2 + 4 e^0.
    layer = vd.LinearVD(2, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.0]]))
        layer.log_sigma2.copy_(torch.tensor([[-2.0, 0.0]]))
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(40000, 2)
    y = noisy(layer, x).detach()
    assert y.mean().item() == pytest.approx(-1.5, abs=4 * math.sqrt(4.1353 / 40000))
    assert y.var().item() == pytest.approx(4.135335, rel=4 * math.sqrt(2 / 40000))
    expected = [[-0.613706, 0.0]]
    numpy.testing.assert_allclose(layer.log_alpha(), expected, atol=1e-6)


def test_output_is_that_of_our_own_layer():
    layer, x = layer_and_input(vd.LinearVD, (6, 5), {}, (3, 6))
    noise = torch.randn(
        (3, 5), generator=torch.Generator().manual_seed(0), dtype=x.dtype
    )
    arrays = [layer.weight, layer.log_sigma2, layer.bias, noise]
    expected = F.vd_linear(x.numpy(), *(a.detach().numpy() for a in arrays))
    numpy.testing.assert_allclose(noisy(layer, x).detach(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "case", [(vd.LinearVD, (6, 5), {}, (3, 6)), WINDOWS[1]], ids=str
)
def test_evaluation_is_the_plain_layer_with_noise_weights_at_zero(case):
    layer, x = layer_and_input(*case)
    with torch.no_grad():
        layer.log_sigma2[0] = 8.0
    plain = layer.dense_class(*case[1], **case[2], dtype=torch.float64)
    missing = layer.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys == ["log_sigma2"]
    assert missing.unexpected_keys == []
    with torch.no_grad():
        plain.weight[0] = 0
        plain.weight[(plain.weight**2).log() < -3 - 3] = 0
        torch.testing.assert_close(layer.eval()(x), plain(x), rtol=0, atol=0)
        assert not torch.equal(layer.train()(x), plain(x))


def test_state_copy_and_pickle_are_those_of_modules():
    layer = vd.Conv2dVD(2, 3, 3, threshold=2, kl="exact", clip=None)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.threshold, other.kl, other.clip) == (2.0, "exact", None)
        for name, value in layer.state_dict().items():
            assert torch.equal(other.state_dict()[name], value)
    new = vd.Conv2dVD(2, 3, 3)
    new.load_state_dict(layer.state_dict())
    assert torch.equal(new.log_sigma2, layer.log_sigma2)
    assert isinstance(layer, nn.Conv2d)


def test_zero_variance_and_masked_layer_have_no_nan():
    # pytorch_ard's layer is NaN here.
    for layer in (
        vd.LinearVD(3, 2, initial_log_sigma2=-200.0),
        vd.LinearVD(3, 2, initial_log_sigma2=9.0, mask_in_training=True),
    ):
        (layer(torch.zeros(4, 3)).square().sum() + layer.kl_divergence()).backward()
        for parameter in layer.parameters():
            assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    # 300^2 is more than float16 holds, exp(-20) less than it can tell from 0.
    layer = vd.LinearVD(50, 40, False, initial_log_sigma2=-20.0, dtype=dtype)
    x = torch.full((64, 50), 300.0, dtype=dtype)
    layer(x).float().sum().backward()
    assert bool(layer.log_sigma2.grad.isfinite().all())
    assert layer.log_sigma2.grad.dtype == dtype
    assert bool(layer.log_alpha().isfinite().all())
    # 2000 weights of some 7 nats each: the sum is more than float16 could hold well.
    divergence = layer.kl_divergence()
    assert divergence.dtype == torch.float32
    weight, log_sigma2 = (p.detach().double() for p in layer.posterior())
    log_alpha = variational.log_alpha(weight, log_sigma2, clip=8)
    expected = variational.kl_sparse_vd(log_alpha).sum()
    assert divergence.item() == pytest.approx(expected.item(), rel=1e-4)
    nn.init.zeros_(layer.weight)
    y = layer(x)
    assert y.dtype == dtype
    std = 300 * math.sqrt(50 * math.exp(-20))
    assert y.float().std().item() == pytest.approx(std, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_autocast_keeps_parameters_and_variances_in_range(dtype, masked):
    torch.manual_seed(3)
    network = nn.Sequential(
        vd.Conv2dVD(3, 4, 3, mask_in_training=masked),
        nn.ReLU(),
        nn.Flatten(),
        vd.LinearVD(64, 5, mask_in_training=masked),
    )
    x = torch.randn(2, 3, 6, 6) * 300
    with torch.autocast("cpu", dtype):
        y = network(x)
    assert y.dtype == dtype
    y.float().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all())
    with torch.autocast("cpu", dtype), torch.no_grad():
        assert network.eval()(x).dtype == dtype


def test_autocast_has_the_gradients_of_float32():
    torch.manual_seed(3)
    layer = vd.LinearVD(30, 20, initial_log_sigma2=-3.0)
    x = torch.randn(16, 30)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = layer(x).float().sum()  # whose slope by the means has no noise
        gradients.append(torch.autograd.grad(loss, [layer.weight, layer.bias]))
    for exact, half in zip(*gradients, strict=True):
        scale = float(exact.abs().max())
        torch.testing.assert_close(half, exact, rtol=0, atol=0.01 * scale)


def test_generator_makes_the_noise():
    layer = vd.LinearVD(3, 2, generator=torch.Generator().manual_seed(5))
    x = torch.ones(4, 3)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    layer.generator.manual_seed(5)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"threshold": float("nan")}, ValueError, "`threshold` must be finite"),
        ({"threshold": "3"}, TypeError, "`threshold` must be a number, got str"),
        ({"threshold": 9}, ValueError, "`clip` must be above the size of `threshold`"),
        ({"kl": "laplace"}, ValueError, "`kl` must be one of 'molchanov', 'exact'"),
        ({"initial_log_sigma2": None}, TypeError, "`initial_log_sigma2` must be a"),
        ({"dtype": torch.complex64}, TypeError, "of a floating-point dtype"),
    ],
)
def test_bad_arguments_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        vd.LinearVD(3, 2, **options)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (numpy.ones((2, 3), numpy.float32), TypeError, "torch.Tensor, got numpy.nd"),
        (torch.ones(2, 3, dtype=torch.float64), TypeError, "torch.float32, got torch"),
        (torch.ones(2, 3, dtype=torch.int64), TypeError, "dtype of the weights"),
        (torch.ones(2, 4), ValueError, r"shape \(..., 3\), got \(2, 4\)"),
        (torch.ones(2, 3, device="meta"), ValueError, "weights, cpu, got meta"),
    ],
)
def test_bad_inputs_are_refused(x, error, text):
    with pytest.raises(error, match=f"LinearVD: `input` must .*{text}"):
        vd.LinearVD(3, 2)(x)


def test_images_of_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"\(batch, 3, \.\.\.\), 2 axes after"):
        vd.Conv2dVD(3, 4, 3)(torch.ones(2, 4, 5, 5))


@pytest.mark.parametrize(
    "case", [(vd.LinearVD, (6, 5), {}, (3, 6)), WINDOWS[0]], ids=str
)
def test_one_array_of_the_outputs_size_is_kept(case):
    layer, x = layer_and_input(*case)
    known = {tensor.data_ptr() for tensor in (x, *layer.parameters())}
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        y = layer(x)
    others = [tensor for tensor in kept if tensor.data_ptr() not in known]
    assert [tensor.shape for tensor in others] == [y.shape]
