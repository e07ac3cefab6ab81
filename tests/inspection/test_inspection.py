"""What is reported of a trained model is what the model is."""

import itertools
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


@pytest.fixture
def image_model():
    class Net(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=100)
            with self.init_scope():
                self.layers = Sequential(
                    L.VariationalDropoutConvolution2D(2, 6, 3, pad=1),
                    L.BatchNormalization(6),
                    F.relu,
                    lambda x: F.max_pooling_2d(x, 2),
                    L.VariationalDropoutConvolution2D(6, 4, 2, groups=2, nobias=True),
                    F.flatten,
                    L.VariationalDropoutLinear(16, 4),
                )

        def forward(self, x):
            return self.layers(x)

    net = Net()
    rng = numpy.random.default_rng(1)
    for _, link in net.variational_links():
        link.log_sigma2.array = rng.normal(-2, 3, link.W.array.shape).astype("float32")
    net.layers[1].avg_mean = rng.random(6, "float32")
    return net


@pytest.fixture
def images():
    rng = numpy.random.default_rng(2)
    return rng.random((130, 2, 6, 6), dtype="float32"), rng.integers(0, 4, 130)


@pytest.mark.parametrize("masked", [True, False])
def test_dense_model_of_images_is_the_mean_network(image_model, images, masked):
    x, _ = images
    dense = inspection.DenseModel(image_model, x.shape[1:], masked=masked)
    if not masked:
        for _, link in image_model.variational_links():
            link.log_sigma2.array[...] = -40
    with vdcore.using_config("train", False):
        expected = image_model(x)
    for part in (x, x[:1]):
        actual = dense(part)
        numpy.testing.assert_allclose(
            actual, expected[: len(part)], rtol=1e-4, atol=1e-5
        )


def test_dense_model_keeps_the_weights_that_it_was_made_of(model, examples):
    x, _ = examples
    dense = inspection.DenseModel(model)
    before = dense(x)
    for _, link in model.variational_links():
        link.W.array *= 2
    numpy.testing.assert_array_equal(dense(x), before)


def test_dense_model_of_images_needs_their_shape(image_model):
    with pytest.raises(ValueError, match=r"takes images, .* pass `in_shape`"):
        inspection.DenseModel(image_model)


def test_summary_of_a_model_of_images(image_model, images, tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    x, t = images
    summary = inspection.summarize(image_model, x, t, tmp_path, seconds=0.001)
    with vdcore.using_config("train", False):
        expected = float((image_model(x).argmax(axis=1) != t).mean())
    assert summary.pruned_error == pytest.approx(expected)
    assert [layer.inputs for layer in summary.size.layers] == [2, 6, 16]
    assert [layer.outputs for layer in summary.size.layers] == [6, 4, 4]
    assert summary.architecture[0] == "6-4-16"
    assert "architecture 6-4-16, left " in (tmp_path / "summary.txt").read_text()
    assert (tmp_path / "masks.png").stat().st_size > 500


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
    header, *rows = str(table).splitlines()
    assert header.split()[:3] == ["batch", "a", "b"]
    # A line about a busy machine may follow.
    assert [row.split()[0] for row in rows[:2]] == ["1", "16"]


@pytest.mark.parametrize("slow", [1.4, 3.0])
def test_latency_says_that_the_machine_was_busy(examples, monkeypatch, slow):
    """Every other call of the clock's function is slow: medians alone hide that."""
    x, _ = examples
    micros = itertools.cycle([1e-3, slow * 1e-3])
    monkeypatch.setattr(
        "vdcore.inspection.latency._time",
        lambda predict, part, calls: 1e-3 if predict is str else next(micros),
    )
    table = inspection.compare_latency({"idle": str, "busy": len}, x, (1, 16))
    assert table.spread == pytest.approx(slow)
    lines = str(table).splitlines()
    if slow > 1.5:
        assert lines.pop() == (
            "the machine was busy: times vary by a factor of 3.0; "
            "repeat when it is idle"
        )
    assert len(lines) == 3


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


@pytest.fixture
def figures(monkeypatch):
    """The figures saved by a test."""
    figure = pytest.importorskip("matplotlib.figure", reason="pictures need matplotlib")
    saved = []
    save = figure.Figure.savefig

    def record(self, path, **options):
        saved.append(self)
        save(self, path, **options)

    monkeypatch.setattr(figure.Figure, "savefig", record)
    return saved


@pytest.mark.parametrize("clip", [None, 4.0, 50.0])
def test_log_alpha_panels_share_a_range_and_name_their_lines(
    model, tmp_path, figures, clip
):
    links = list(model.variational_links())
    for _, link in links:
        link.clip = clip
    inspection.plot_log_alpha(model, tmp_path / "log_alpha.png")
    (figure,) = figures
    assert len({panel.get_xlim() for panel in figure.axes}) == 1
    for panel, (name, link) in zip(figure.axes, links, strict=True):
        pruned = 1 - numpy.asarray(link.keep_mask()).mean()
        assert panel.get_title() == f"{name}: {100 * pruned:.2f} % pruned"
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("log alpha", "weights")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    expected = ["pruned: log alpha > 3"]
    if clip == 4.0:  # no weight lies beyond 50
        expected += ["clip: the KL term ends its push at 4"]
    assert labels == expected


def test_log_alpha_panels_of_a_deep_model_stand_in_rows(tmp_path, figures):
    deep = L.VariationalDropoutChain()
    with deep.init_scope():
        deep.layers = Sequential(*[L.Linear(3, 3) for _ in range(7)])
    deep.to_variational_dropout()
    inspection.plot_log_alpha(deep, tmp_path / "log_alpha.png")
    places = [panel.get_position() for panel in figures[0].axes]
    assert [round(place.x0, 2) for place in places[5:]] == [
        round(place.x0, 2) for place in places[:2]
    ]
    assert len({round(place.y0, 2) for place in places}) == 2
    assert figures[0].get_figwidth() < 20


@pytest.mark.parametrize("max_dots", [0, 100])  # as an image, as dots
def test_masks_show_even_the_smallest_weight(
    model, tmp_path, figures, monkeypatch, max_dots
):
    monkeypatch.setattr("vdcore.inspection.plots.MAX_DOTS", max_dots)
    name, link = next(model.variational_links())
    kept = int(numpy.asarray(link.keep_mask()).sum())
    link.log_sigma2.array[...] = numpy.where(link.keep_mask(), -30, 30)
    link.W.array[link.keep_mask()] *= numpy.geomspace(1e-3, 1, kept, dtype="float32")
    inspection.plot_masks(model, tmp_path / "masks.png")
    panel, _, bar, _ = figures[0].axes
    assert panel.get_title().startswith(f"{name}: {kept} of 108 weights, ")
    assert bar.get_ylabel() == "weight"
    (drawn,) = panel.images or panel.collections
    low, high = drawn.get_clim()
    assert low == -high
    for value, main in ((-1e-6 * high, 2), (1e-6 * high, 0)):
        colour = drawn.to_rgba(value)
        assert max(colour[:3]) == colour[main]
        assert min(colour[:3]) < 0.7, "too pale on white"


def test_masks_without_weights(model, tmp_path, figures):
    for _, link in model.variational_links():
        link.log_sigma2.array[...] = 30
    inspection.plot_masks(model, tmp_path / "masks.png")
    assert figures[0].axes[0].get_title().startswith("/layers/0: 0 of 108 weights, ")
