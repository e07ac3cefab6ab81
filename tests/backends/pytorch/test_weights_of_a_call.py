"""Embedding, LSTM and attention: draws, masks, and torch's own answers."""

from __future__ import annotations

import numpy
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from vdcore.backends import torch_backend as vd  # noqa: E402
from vdcore.backends.pytorch.sampled_weights import sampled_weights  # noqa: E402

QUIET = {"initial_log_sigma2": -60.0, "clip": None}  # so little noise that none shows
LSTMS = [
    {"num_layers": 2, "dropout": 0.0, "bidirectional": True},
    {"proj_size": 3, "batch_first": True},
    {"bias": False},
]
ATTENTIONS = [
    {"batch_first": True},
    {"kdim": 6, "vdim": 5, "bias": False},
    {"add_bias_kv": True, "add_zero_attn": True},
]


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_draw_and_its_gradients_are_those_of_the_composition(threshold):
    torch.manual_seed(0)
    weight, log_sigma2, noise = torch.randn(3, 5, 4, dtype=torch.float64)
    inputs = [weight.requires_grad_(), log_sigma2.requires_grad_()]
    ours = sampled_weights(*inputs, noise, threshold)
    expected = weight + (log_sigma2 / 2).exp() * noise
    if threshold is not None:
        keep = log_sigma2 - (weight**2 + 1e-8).log() <= threshold
        assert 0 < int(keep.sum()) < keep.numel()
        expected = expected * keep
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    way = torch.randn_like(weight)
    for pair in zip(
        torch.autograd.grad((ours * way).sum(), inputs),
        torch.autograd.grad((expected * way).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(*pair, rtol=1e-12, atol=0)


@pytest.mark.parametrize("noise", ["weights", "activations"])
@pytest.mark.parametrize("options", LSTMS, ids=str)
def test_lstm_without_noise_is_torchs(noise, options):
    torch.manual_seed(1)
    layer = vd.LSTMVD(4, 5, **options, noise=noise, **QUIET, dtype=torch.float64)
    plain = nn.LSTM(4, 5, **options, dtype=torch.float64)
    plain.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if "log" not in name}
    )
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    y, (h, c) = plain(x)
    state = torch.randn_like(h), torch.randn_like(c)
    for hx in (None, state):
        y, states = plain(x, hx)
        # The variance's floor, 1e-8, is noise of 1e-4 for each gate.
        tolerance = 1e-9 if noise == "weights" else 5e-3
        results = layer(x, hx)
        torch.testing.assert_close(results, (y, states), rtol=0, atol=tolerance)
    y, _ = plain(x[:, 0])
    tolerance = 1e-9 if noise == "weights" else 5e-3
    torch.testing.assert_close(layer(x[:, 0])[0], y, rtol=0, atol=tolerance)
    torch.testing.assert_close(layer.eval()(x, state), plain(x, state), rtol=0, atol=0)


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_rule_of_noise_of_an_lstm(noise):
    torch.manual_seed(2)
    layer = vd.LSTMVD(3, 4, noise=noise, initial_log_sigma2=-3.0)
    same = torch.randn(5, 1, 3).expand(5, 2, 3)  # two equal examples
    y, _ = layer(same)
    assert torch.equal(y[:, 0], y[:, 1]) == (noise == "weights")
    y.sum().backward()
    gradients = [p.grad for p in layer.parameters()]
    assert all(bool((gradient != 0).any()) for gradient in gradients)
    assert [name for name, _ in layer.named_parameters()][-2:] == [
        "log_sigma2_ih_l0",
        "log_sigma2_hh_l0",
    ]


def test_packed_sequences():
    layer = vd.LSTMVD(3, 4)
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    y, _ = layer(packed)
    assert y.data.shape == (6, 4)
    layer.noise = "activations"
    with pytest.raises(TypeError, match='PackedSequence; use noise="weights"'):
        layer(packed)


@pytest.mark.parametrize("options", ATTENTIONS, ids=str)
def test_attention_without_noise_is_torchs(options):
    torch.manual_seed(3)
    layer = vd.MultiheadAttentionVD(8, 2, **options, **QUIET, dtype=torch.float64)
    plain = nn.MultiheadAttention(8, 2, **options, dtype=torch.float64)
    plain.load_state_dict(
        {name: value for name, value in layer.state_dict().items() if "log" not in name}
    )
    q, k, v = (
        torch.randn(4, 4, size, dtype=torch.float64)
        for size in (8, options.get("kdim", 8), options.get("vdim", 8))
    )
    mask = torch.ones(4, 4).tril() == 0
    for train in (True, False):
        ours = layer.train(train)(q, k, v, attn_mask=mask)
        expected = plain.train(train)(q, k, v, attn_mask=mask)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)
    assert len(list(layer.layer_sizes(""))) == (3 if "kdim" in options else 1)


@pytest.mark.parametrize("grad", [True, False])
def test_transformer_layer_is_masked_in_evaluation(grad):
    # torch's fused kernel reads the weights past the layers.
    torch.manual_seed(4)
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), 2
    )
    x, padding = torch.randn(3, 5, 8), torch.arange(5) > torch.tensor([[4], [2], [3]])
    vd.convert(encoder)
    layers = [m for m in encoder.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for layer in (*layers, *(block.self_attn for block in encoder.layers)):
            for name in layer.weight_names:
                layer.posterior(name)[1][0] = 9.0
    encoder.eval()
    with torch.set_grad_enabled(grad):
        masked = encoder(x, src_key_padding_mask=padding)
    vd.prune_(encoder)
    assert not any("log_sigma2" in name for name in encoder.state_dict())
    assert bool((encoder.layers[0].self_attn.in_proj_weight[0] == 0).all())
    with torch.set_grad_enabled(grad):
        pruned = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(masked, pruned, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_rule_of_noise_of_an_embedding(noise):
    torch.manual_seed(5)
    layer = vd.EmbeddingVD(7, 4, padding_idx=2, noise=noise, initial_log_sigma2=-2.0)
    with torch.no_grad():
        layer.weight[2] = torch.tensor([1e-4, 0.0, 1.0, 2.0])
    ids = torch.tensor([[1, 2, 1], [5, 1, 2]])
    y = layer(ids)
    assert torch.equal(y[0, 0], y[0, 2]) == (noise == "weights")
    assert torch.equal(y[0, 0], y[1, 1]) == (noise == "weights")
    assert torch.equal(y[0, 1], layer.weight[2])  # a constant
    (y.square().sum() + layer.kl_divergence()).backward()
    assert bool((layer.weight.grad[2] == 0).all())
    assert bool((layer.log_sigma2.grad[2] == 0).all())
    assert bool((layer.log_sigma2.grad[0] != 0).all())  # by the KL term alone
    assert layer.keep_mask()[2].tolist() == [True, False, True, True]
    others = [0, 1, 3, 4, 5, 6]
    expected = torch.where(layer.keep_mask(), layer.weight, 0.0)
    assert torch.equal(layer.eval()(ids), expected[ids])
    rest = vd.EmbeddingVD.from_pretrained(layer.weight.detach()[others])
    with torch.no_grad():
        rest.log_sigma2.copy_(layer.log_sigma2[others])
    kl = layer.kl_divergence().item()
    assert kl == pytest.approx(rest.kl_divergence().item(), rel=1e-6)
    assert not rest.weight.requires_grad  # as of torch's
    assert not rest.log_sigma2.requires_grad


def test_noise_of_an_embedding_has_the_variance():
    torch.manual_seed(6)
    layer = vd.EmbeddingVD(2, 3, noise="activations", initial_log_sigma2=-2.0)
    y = layer(torch.zeros(40000, dtype=torch.int64)).detach()
    numpy.testing.assert_allclose(y.var(0), numpy.exp(-2), rtol=0.03)
    numpy.testing.assert_allclose(y.mean(0), layer.weight[0].detach(), atol=0.01)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"EmbeddingVD: `sparse` must be False"):
        vd.EmbeddingVD(3, 2, sparse=True)
    with pytest.raises(ValueError, match=r"LSTMVD: `noise` must be 'weights' or"):
        vd.LSTMVD(3, 2, noise="both")
    layer = vd.EmbeddingVD(3, 2)
    with pytest.raises(
        TypeError, match=r"`input` must be .*int64 or int32, got torch.f"
    ):
        layer(torch.ones(2))
    with pytest.raises(TypeError, match=r"int64 or int32, got list; convert it"):
        layer([0, 1])
    with pytest.raises(ValueError, match=r"weights, cpu, got meta"):
        layer(torch.zeros(2, dtype=torch.int64, device="meta"))
    with pytest.raises(TypeError, match=r"LSTMVD: `input` .* got numpy.ndarray"):
        vd.LSTMVD(3, 2)(numpy.zeros((2, 2, 3), numpy.float32))
