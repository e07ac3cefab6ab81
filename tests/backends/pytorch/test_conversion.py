"""convert and prune_: layers in place, sharing, what cannot be converted, formats."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

from vdcore.backends import torch_backend as vd  # noqa: E402


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) ** 2


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.blocks = nn.ModuleList([nn.LSTM(4, 4), nn.Conv1d(4, 4, 1)])
        self.normalization = nn.LayerNorm(4)
        self.own = Own(4, 4)
        self.transposed = nn.ConvTranspose1d(4, 4, 1)
        self.head = nn.Linear(4, 9)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        y, _ = self.blocks[0](self.embedding(ids))
        y = self.blocks[1](y.permute(1, 2, 0))
        y = self.transposed(y).permute(2, 0, 1)
        return self.head(self.own(self.normalization(y)))


def test_layers_keep_identity_weights_hooks_and_sharing():
    torch.manual_seed(0)
    model = Model()
    ids = torch.randint(0, 9, (5, 3))
    before, dense = model.eval()(ids), model.state_dict()
    head, calls = model.head, []
    head.register_forward_hook(lambda *_: calls.append(1))
    parameters = dict(model.named_parameters())
    report = vd.convert(model, initial_log_sigma2=-40.0, clip=None)
    assert report.converted == {
        "embedding": "EmbeddingVD",
        "blocks.0": "LSTMVD",
        "blocks.1": "Conv1dVD",
        "head": "LinearVD",
    }
    assert list(report.kept) == ["own", "transposed"]
    assert "own: left as it is, a Own may compute otherwise than" in str(report)
    assert "no variational form of a ConvTranspose1d" in report.kept["transposed"]
    assert model.head is head
    for name, parameter in parameters.items():
        assert dict(model.named_parameters())[name] is parameter
    assert model.head.log_sigma2 is model.embedding.log_sigma2
    missing, unexpected = model.load_state_dict(dense, strict=False)
    assert unexpected == []
    assert all("log_sigma2" in name for name in missing)
    # Weights of 1e-9 or so are the only noise there could be.
    torch.testing.assert_close(model(ids), before)
    assert calls
    size = vd.sparsity_report(model)
    assert [layer.name for layer in size.layers] == [
        "embedding",
        "blocks.0.weight_ih_l0",
        "blocks.0.weight_hh_l0",
        "blocks.1",
    ]
    assert size.weights == 36 + 2 * 64 + 16
    total = sum(p.numel() for p in parameters.values())
    others = size.others + sum(layer.others for layer in size.layers)
    assert size.weights + others == total
    again = vd.convert(model)
    assert again.converted == {}


@pytest.mark.parametrize("to", ["dense", "sparse_csr"])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_pruned_model_answers_as_in_evaluation(to):
    torch.manual_seed(1)
    model = Model()
    model.second = nn.Sequential(nn.Linear(9, 6, bias=False), nn.ReLU())
    vd.convert(model, initial_log_sigma2=-2.0)
    ids = torch.randint(0, 9, (5, 3))
    masked = model.second(model.eval()(ids))
    size = vd.sparsity_report(model)
    assert size.weight_ratio > 1.1
    assert vd.prune_(model, to) is model
    assert type(model.blocks[0]) is nn.LSTM
    assert type(model.head) is nn.Linear
    assert not any("log_sigma2" in name for name in model.state_dict())
    tolerance = 0 if to == "dense" else 1e-5
    again = model.second(model(ids))
    torch.testing.assert_close(again, masked, rtol=tolerance, atol=tolerance)
    weight = model.second[0].weight
    assert weight.layout == (torch.strided if to == "dense" else torch.sparse_csr)
    assert int((weight.to_dense() != 0).sum()) == size.layers[-1].weights_kept
    assert model.head.weight is model.embedding.weight  # shared, so dense


def test_a_layer_itself_is_converted():
    layer = nn.Linear(3, 2)
    assert vd.convert(layer, threshold=2).converted == {"": "LinearVD"}
    assert isinstance(layer, vd.LinearVD)
    assert type(vd.prune_(layer)) is nn.Linear


def test_weights_shared_with_what_cannot_be_converted_are_left():
    model = nn.ModuleDict(
        {
            "a": nn.Linear(3, 3),
            "b": Own(3, 3),
            "c": nn.Linear(3, 3),
            "d": nn.Linear(3, 3),
        }
    )
    model["b"].weight = model["a"].weight
    model["c"].bias = model["a"].bias
    report = vd.convert(model)
    assert report.converted == {"d": "LinearVD"}
    assert "shares a parameter with `b`" in report.kept["a"]
    assert "shares a parameter with" in report.kept["c"]
    assert type(model["a"]) is type(model["c"]) is nn.Linear


def test_what_cannot_be_converted_says_why():
    padded = nn.Embedding(3, 3, padding_idx=0)
    tied = nn.Linear(3, 3)
    tied.weight = padded.weight
    model = nn.ModuleDict(
        {
            "lazy": nn.LazyLinear(3),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
            "pruned": nn.Linear(3, 3),
            "sparse": nn.Embedding(3, 3, sparse=True),
            "padded": padded,
            "tied": tied,
        }
    )
    prune.random_unstructured(model["pruned"], "weight", 0.5)
    report = vd.convert(model)
    assert report.converted == {}
    for name, text in {
        "lazy": "shape is not known; call the model on one batch",
        "normed": "may compute otherwise than its base Linear",
        "sparse": "sparse=True",
        "padded": "`padding_idx`",
        "tied": "shares a parameter with `padded`",
        "pruned": "is computed, not a parameter",
    }.items():
        assert any(
            text in reason for path, reason in report.kept.items() if name in path
        ), report


def test_wrong_options_leave_the_module_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3))
    for options in ({"kl": "l2"}, {"noise": "none"}, {"clip": 1.0}):
        with pytest.raises(ValueError, match=r"must be"):
            vd.convert(model, **options)
    with pytest.raises(TypeError, match=r"unexpected keyword"):
        vd.convert(model, treshold=2)
    assert type(model[0]) is nn.Linear
    with pytest.raises(ValueError, match=r"`to` must be one of .* got 'csr'"):
        vd.prune_(model, to="csr")


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_a_sparse_layer_is_left():
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    vd.convert(model)
    vd.prune_(model, to="sparse_csr")
    report = vd.convert(model)
    assert "whose weight is sparse already" in str(report)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"generator": 3}, "`generator` must be a torch.Generator, got int"),
        ({"mask_in_training": "yes"}, "`mask_in_training` must be True or False"),
    ],
)
def test_wrong_options_leave_the_module(options, text):
    model = nn.Sequential(nn.Linear(6, 5))
    with pytest.raises(TypeError, match=text):
        vd.convert(model, **options)
    assert type(model[0]) is nn.Linear


def test_numpy_arrays_are_named():
    x = torch.randn(2, 3, 4)
    array = x.numpy()
    attention = vd.MultiheadAttentionVD(4, 2)
    with pytest.raises(TypeError, match=r"`key` must be a torch\.Tensor, got numpy"):
        attention(x, array, x)
    with pytest.raises(TypeError, match=r"`value` must have the dtype of the weights"):
        attention(x, x, x.double())
    state = torch.zeros(1, 3, 4)
    with pytest.raises(TypeError, match=r"`c_0` must be a torch\.Tensor"):
        vd.LSTMVD(4, 4)(x, (state, state.numpy()))
    model = vd.LinearVD(4, 2)
    criterion = vd.ELBOLoss(model, nn.functional.mse_loss)
    with pytest.raises(TypeError, match=r"`target` must be a torch\.Tensor"):
        criterion(model(x), array)
    with pytest.raises(TypeError, match=r"`net` must be an nn\.Module and `loss_fn`"):
        vd.ELBOLoss(nn.functional.mse_loss, model)
