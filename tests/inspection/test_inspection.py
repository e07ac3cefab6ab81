"""What is reported of a trained model is what the model is."""

import json

import numpy
import pytest

import vdcore
from vdcore import Sequential, inspection
from vdcore import functions as F
from vdcore import links as L


@pytest.fixture
def model():
    class Net(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=100)
            with self.init_scope():
                self.layers = Sequential(
                    L.VariationalDropoutLinear(12, 9),
                    F.relu,
                    L.VariationalDropoutLinear(9, 4, nobias=True),
                )

        def forward(self, x):
            return self.layers(x)

    net = Net()
    rng = numpy.random.default_rng(1)
    for _, link in net.variational_links():
        link.log_sigma2.array = rng.normal(-2, 3, link.W.array.shape).astype("float32")
    return net


@pytest.fixture
def examples():
    rng = numpy.random.default_rng(2)
    return rng.random((130, 3, 4), dtype="float32"), rng.integers(0, 4, 130)


def masked_forward(model, x, threshold):
    """The masked network in float64, written out."""
    h = x.reshape(len(x), -1).astype("float64")
    for position, (_, link) in enumerate(model.variational_links()):
        W = link.W.array.astype("float64")
        la = link.log_sigma2.array.astype("float64") - numpy.log(W * W + 1e-8)
        h = h @ numpy.where(la <= threshold, W, 0).T
        h = h if link.b is None else h + link.b.array
        h = numpy.maximum(h, 0) if position == 0 else h
    return h


@pytest.mark.parametrize(("masked", "threshold"), [(True, 3.0), (False, numpy.inf)])
def test_dense_model_is_the_mean_network(model, examples, masked, threshold):
    x, _ = examples
    actual = inspection.DenseModel(model, masked=masked)(x)
    expected = masked_forward(model, x, threshold)
    numpy.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_error_rate_counts_every_example(examples):
    x, t = examples
    scores = numpy.eye(4)[t]
    scores[:13] = numpy.eye(4)[(t[:13] + 1) % 4]
    batches = iter(numpy.split(scores, [50, 100]))
    rate = inspection.error_rate(lambda part: next(batches), x, t, batch_size=50)
    assert rate == pytest.approx(13 / 130)


def test_latency_needs_enough_examples(examples):
    x, _ = examples
    with pytest.raises(ValueError, match=r"must hold 256 examples .* got 130"):
        inspection.compare_latency({"dense": len}, x, batches=(1, 256))


def test_latency_table_has_a_row_a_batch(examples):
    x, _ = examples
    seen = []
    table = inspection.compare_latency(
        {"a": lambda part: seen.append(len(part)), "b": len}, x, (1, 16), seconds=0.001
    )
    assert set(seen) == {1, 16}
    assert table.names == ("a", "b")
    assert [len(row) for row in table.microseconds] == [2, 2]
    assert len(str(table).splitlines()) == 3


def test_summary_agrees_with_the_model(model, examples, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    x, t = examples
    summary = inspection.summarize(
        model, x, t, tmp_path, seconds=0.001, settings={"seed": 3}
    )
    written = json.loads((tmp_path / "summary.json").read_text())
    with vdcore.using_config("train", False):
        expected = float((model(x).argmax(axis=1) != t).mean())
    assert summary.pruned_error == pytest.approx(expected)
    assert written["settings"] == {"seed": 3}
    stats = L.calculate_stats(model)
    assert written["weight_ratio"] == pytest.approx(stats["W/Wnz"])
    assert sum(written["weights_kept"]) == summary.size.weights_kept
    names = {"model.npz", "model_sparse.npz", "log_alpha.png", "masks.png"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert all((tmp_path / name).stat().st_size > 500 for name in names)
