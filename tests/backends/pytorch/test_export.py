"""To our links and sparse models, and through .safetensors files."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import functions, serializers
from vdcore import links as L
from vdcore.backends import sparse_backend

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from vdcore.backends import torch_backend as vd  # noqa: E402


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3, padding="same", dilation=2)
        self.b1 = nn.BatchNorm2d(4, affine=False)
        self.c2 = nn.Conv2d(4, 6, (3, 2), stride=2, groups=2, bias=False)
        self.l1 = nn.Linear(24, 9)
        self.b2 = nn.BatchNorm1d(9)
        self.drop = nn.Dropout(0.3)
        self.l2 = nn.Linear(9, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.b1(self.c1(x))), 2, ceil_mode=True)
        x = F.avg_pool2d(torch.tanh(self.c2(x)), 2, 1, padding=1)
        x = F.max_pool2d(x, (2, 2), 1)
        x = x.view(x.size(0), -1)
        x = F.dropout(self.drop(self.b2(self.l1(x)).relu()), training=self.training)
        return F.softmax(self.l2(x), dim=1)


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6, padding_idx=1)
        self.lstm = nn.LSTM(6, 5, 2, dropout=0.2)
        self.head = nn.Linear(5, 20)

    def forward(self, ids):
        y, _ = self.lstm(self.embedding(ids))
        return self.head(y)


def images(variational):
    torch.manual_seed(0)
    network = Images()
    if variational:
        vd.convert(network, initial_log_sigma2=-4.0)
    network(torch.randn(16, 1, 9, 8) + 1)  # running statistics
    return network, torch.randn(3, 1, 9, 8)


@pytest.mark.parametrize("variational", [True, False])
def test_network_of_images_has_equal_predictions(variational):
    network, x = images(variational)
    # By SciPy, for which nothing is compiled.
    sparse = vd.to_cpu_sparse(network, (1, 9, 8), formats="csr")
    assert network.training  # left as it was
    expected = network.eval()(x).detach()
    numpy.testing.assert_allclose(sparse.predict(x.numpy()), expected, atol=1e-5)
    if variational:
        kept = sum(layer.kept for layer in sparse.layers)
        size = vd.sparsity_report(network)
        assert kept == size.weights_kept < size.weights
        vd.prune_(network)
        again = sparse_backend.to_cpu_sparse(network, (1, 9, 8), formats="csr")
        assert sum(layer.kept for layer in again.layers) == kept
    chain = vd.to_chain(network, (1, 9, 8))  # of plain links, or kernels are compiled
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(chain(x.numpy()), expected, atol=1e-5)


@pytest.mark.parametrize("variational", [True, False])
def test_network_of_sequences_has_equal_predictions(variational, tmp_path):
    torch.manual_seed(1)
    network = Language()
    if variational:
        vd.convert(network, initial_log_sigma2=-4.0)
    with torch.no_grad():
        network.embedding.weight[1] = 1e-4  # a constant, however small
    ids = torch.randint(0, 20, (7, 3))
    expected = network.eval()(ids).detach()
    vd.to_cpu_sparse(network, formats="csr").save(tmp_path / "model.npz")
    sparse = sparse_backend.load(tmp_path / "model.npz", formats="csr")
    numpy.testing.assert_allclose(sparse.predict(ids.numpy()), expected, atol=1e-5)


class Branch(nn.Sequential):
    def forward(self, x):
        return self[0](x) + x


class Condition(nn.Sequential):
    def forward(self, x):
        return self[0](x) if x.sum() > 0 else x


REFUSED = [
    (nn.Sequential(nn.Linear(3, 3), nn.GELU()), "`1` of Sequential is a GELU, of wh"),
    (Branch(nn.Linear(3, 3)), "`add` of Branch joins several activations"),
    (Condition(nn.Linear(3, 3)), "the forward of Condition is no plain sequence"),
    (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(3, 3)), "`1` .*flatten them before"),
    (nn.Sequential(nn.Linear(3, 3), nn.Softmax(0)), "`softmax` .*is along axis 0"),
    (nn.Sequential(nn.Embedding(3, 3), nn.LSTM(3, 3), nn.Linear(3, 3)), r"`2` .*\[0\]"),
]


@pytest.mark.parametrize(("network", "text"), REFUSED, ids=range(len(REFUSED)))
def test_other_networks_are_refused_with_a_remedy(network, text):
    with pytest.raises(TypeError, match=f"{text}.*save_safetensors"):
        vd.to_cpu_sparse(network)


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (
            nn.Linear(3, 3, device="meta"),
            "must be on the CPU, got a tensor on meta; mo",
        ),
        (nn.LSTM(3, 3, bidirectional=True), "`bidirectional` = False, got True"),
        (nn.LSTM(3, 3, batch_first=True), "`batch_first` = False, got True"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), "`padding_mode`"),
        (nn.Conv2d(1, 1, 3), "pass `in_shape`"),
    ],
)
def test_arguments_without_an_equivalent_are_refused(network, text):
    with pytest.raises(ValueError, match=text):
        vd.to_cpu_sparse(nn.Sequential(network))


class Links(vdcore.Chain):
    """The same networks, written with our links."""

    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.embedding = L.EmbedID(20, 6)
            setattr(self, "lstm.0", L.LSTM(6, 5))
            setattr(self, "lstm.1", L.LSTM(5, 5))
            self.b = L.BatchNormalization(5)
            self.head = L.VariationalDropoutLinear(5, 20)

    def forward(self, ids):
        y = self["lstm.1"](self["lstm.0"](self.embedding(ids)))
        return self.head(self.b(functions.rows(y)))


def test_weights_go_through_a_file(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    torch.manual_seed(2)
    network = Language()
    network.b = nn.BatchNorm1d(5)
    vd.convert(network, initial_log_sigma2=-4.0)
    path = tmp_path / "weights.safetensors"
    vd.save_safetensors(network, path)
    with torch.no_grad():  # so of all links nothing is noise
        expected = vd.prune_(network).eval()
    assert load_file(path).keys() == expected.state_dict().keys()
    plain = Language()
    plain.b = nn.BatchNorm1d(5)
    plain.load_state_dict(load_file(path))
    chain = Links()
    chain.head.loga_threshold = 100.0
    serializers.load_safetensors(path, chain)
    ids = torch.randint(0, 20, (7, 3))
    y, _ = expected.lstm(expected.embedding(ids))
    y = expected.head(expected.b(y.flatten(0, 1))).detach()
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(chain(ids.numpy()), y, atol=1e-5)


def test_links_go_through_a_file(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    links, other = Links(), Links()
    serializers.save_safetensors(path, links)
    serializers.load_safetensors(path, other)
    for (name, mine), (_, theirs) in zip(
        links.namedparams(), other.namedparams(), strict=True
    ):
        numpy.testing.assert_array_equal(mine.array, theirs.array, name)


@pytest.mark.parametrize("strict", [True, False])
def test_files_that_do_not_fit_change_nothing(strict, tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    vd.save_safetensors(nn.ModuleDict({"l": nn.Linear(3, 2)}), path)
    link = L.Linear(2, 2)
    before = link.W.array.copy()
    with pytest.raises(serializers.FileFormatError, match=r"does not fit Linear: "):
        serializers.load_safetensors(path, link, strict=strict)
    numpy.testing.assert_array_equal(link.W.array, before)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(serializers.FileFormatError, match=r"is damaged, no \.safeten"):
        serializers.load_safetensors(path, link, strict=strict)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        serializers.load_safetensors(tmp_path / "none", link)


def test_a_layer_that_is_used_twice_is_pruned_under_both_names():
    """As state_dict has it; a plain network takes the weights."""
    torch.manual_seed(0)
    block = nn.Linear(4, 4)
    model = nn.Sequential(block, nn.ReLU(), block, nn.Linear(4, 2))
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    vd.convert(model)
    with torch.no_grad():
        model[0].log_sigma2[0] = 9
    state = vd.pruned_state_dict(model)
    plain.load_state_dict(state)  # no name too many
    x = torch.randn(3, 4)
    torch.testing.assert_close(plain(x), model.eval()(x))
    assert not state["2.weight"][0].any()
