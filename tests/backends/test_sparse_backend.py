from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy
import pytest
from scipy.sparse import csr_array

import vdcore
from vdcore import Chain, ChainList, Sequential, optimizers
from vdcore import functions as F
from vdcore import links as L
from vdcore.autodiff import value_and_gradients
from vdcore.backends import sparse_backend
from vdcore.backends.cpu.jit import numba_or_none
from vdcore.backends.sparse import runtime as runtime_module
from vdcore.backends.sparse.layer import pruned_layer
from vdcore.backends.sparse.shrink import shrink
from vdcore.backends.sparse_backend import Layer, SparseModel, to_cpu_sparse
from vdcore.files import FileFormatError

ROOT = Path(__file__).resolve().parents[2]
BATCHES = (0, 1, 2, 3, 15, 16, 17, 32, 33, 65)  # around the widths of the kernels
f4 = numpy.float32


needs_numba = pytest.mark.skipif(
    numba_or_none() is None, reason="numba is not installed"
)


@pytest.fixture(params=[pytest.param("compiled", marks=needs_numba), "csr"])
def runtime(request, monkeypatch):
    if request.param == "csr":
        monkeypatch.setenv("VDCORE_NUMBA", "0")
    return request.param


def random_layer(rng, in_size, out_size, density, activation="identity", bias=True):
    W = rng.standard_normal((out_size, in_size), dtype=f4) / f4(math.sqrt(in_size))
    b = rng.standard_normal(out_size, dtype=f4) if bias else None
    keep = rng.random(W.shape) < density
    return pruned_layer(f"l{in_size}", W, keep, b, activation)


def reference(layers, x):
    """The layers by dense products in double precision."""
    functions = {
        "identity": lambda h: h,
        "relu": lambda h: numpy.maximum(h, 0),
        "tanh": numpy.tanh,
        "sigmoid": lambda h: 1 / (1 + numpy.exp(-h)),
        "softmax": lambda h: numpy.exp(h) / numpy.exp(h).sum(axis=1, keepdims=True),
    }
    h = x.astype(numpy.float64).reshape(len(x), layers[0].W.shape[1])
    for layer in layers:
        W = layer.W.toarray() if layer.is_sparse else layer.W
        h = h @ W.T.astype(numpy.float64) + (0 if layer.b is None else layer.b)
        h = functions[layer.activation](h)
    return h


def check(model, rng, batches=BATCHES):
    for batch in batches:
        x = rng.standard_normal((batch, model.in_size), dtype=f4)
        y = model.predict(x)
        assert y.dtype == f4
        assert y.flags.c_contiguous
        assert y.shape == (batch, model.out_size)
        numpy.testing.assert_allclose(y, reference(model.layers, x), atol=1e-5)


def pruned_chain(rng, *sizes, forward=None):
    """A variational chain of which about nine in ten weights are noise."""

    class Net(L.VariationalDropoutChain):
        def __init__(self):
            super().__init__(num_examples=100)
            with self.init_scope():
                self.layers = ChainList(
                    *map(L.VariationalDropoutLinear, sizes, sizes[1:])
                )

        def forward(self, x):
            *hidden, last = self.layers
            for link in hidden:
                x = F.relu(link(x))
            return last(x)

    model = Net()
    for link in model.layers:
        shape = link.W.array.shape
        link.W.array = rng.standard_normal(shape, dtype=f4) / f4(math.sqrt(shape[1]))
        noise = rng.random(shape) < 0.9
        link.log_sigma2.array = numpy.where(noise, f4(4), f4(-12))
        link.b.array = rng.standard_normal(shape[0], dtype=f4)
    return model


# The answers


@pytest.mark.parametrize("density", [0.02, 0.3, 1])
def test_answers_of_the_dense_network(runtime, rng, density):
    layers = [
        random_layer(rng, 37, 50, density, "relu"),
        random_layer(rng, 50, 20, density, "relu"),
        random_layer(rng, 20, 7, density),
    ]
    check(SparseModel(layers), rng)


@pytest.mark.parametrize("in_size", [1, 2, 7, 8, 9, 15, 16, 17, 40])
def test_any_number_of_inputs(runtime, rng, in_size):
    check(SparseModel([random_layer(rng, in_size, 3, 0.5)]), rng)


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "sigmoid"])
def test_activations(runtime, rng, activation):
    layers = [
        random_layer(rng, 20, 30, 0.3, activation),
        random_layer(rng, 30, 4, 0.3, activation),
    ]
    check(SparseModel(layers), rng)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "softmax"])
def test_activations_of_extreme_values(runtime, activation):
    layer = pruned_layer(
        "l", numpy.eye(2, dtype=f4), numpy.eye(2) > 0, None, activation
    )
    model = SparseModel([layer])
    x = numpy.asarray([[300, -300], [1e-5, -1e-5], [20, 10], [0, 0]], f4)
    with numpy.errstate(over="ignore"):
        expected = {
            "relu": numpy.maximum(x, 0),
            "tanh": numpy.tanh(x),
            "sigmoid": 1 / (1 + numpy.exp(-x)),
            "softmax": 1 / (1 + numpy.exp(x[:, ::-1] - x)),
        }[activation]
    for batch in (1, 4):
        y = model.predict(x[:batch])
        numpy.testing.assert_allclose(y, expected[:batch], rtol=1e-6, atol=1e-7)


def test_softmax_at_the_end(runtime, rng):
    layers = [random_layer(rng, 20, 30, 0.3, "relu"), random_layer(rng, 30, 4, 0.3)]
    layers[1] = Layer("l2", layers[1].W, layers[1].b, "softmax")
    check(SparseModel(layers), rng)


@pytest.mark.parametrize("batch", [1, 3, 16, 40])
def test_nan_of_one_example_stays_and_stays_alone(runtime, rng, batch):
    layers = [random_layer(rng, 20, 9, 0.5, "relu"), random_layer(rng, 9, 4, 0.9)]
    x = rng.standard_normal((batch, 20), dtype=f4)
    clean = SparseModel(layers).predict(x)
    x[0, :] = numpy.nan
    y = SparseModel(layers).predict(x)
    assert numpy.isnan(y[0]).all()
    numpy.testing.assert_array_equal(y[1:], clean[1:])


@pytest.mark.parametrize("emptied", [(0,), (1,), (2,), (0, 1, 2)])
def test_layer_without_weights_left_is_a_constant(runtime, rng, emptied):
    sizes = (12, 9, 8, 5)
    layers = [
        random_layer(rng, sizes[k], sizes[k + 1], 0 if k in emptied else 0.6, "sigmoid")
        for k in range(3)
    ]
    model = SparseModel(layers)
    check(model, rng)
    x = rng.standard_normal((4, 12), dtype=f4)
    numpy.testing.assert_array_equal(model.predict(x), model.predict(x * 0))


def test_layers_without_bias(runtime, rng):
    layers = [
        random_layer(rng, 20, 9, 0.5, "sigmoid", bias=False),
        random_layer(rng, 9, 4, 0.5, bias=False),
    ]
    check(SparseModel(layers), rng)


def test_more_inputs_than_two_byte_indices_count(runtime, rng):
    W = numpy.zeros((3, 70000), f4)
    W[[0, 1, 1, 2], [1, 5, 69999, 66000]] = [1, 2, 3, 4]
    layer = pruned_layer("wide", W, W != 0, None)
    assert layer.arrays()["indices"].dtype == numpy.uint32
    check(SparseModel([layer]), rng, batches=(1, 40))


# How it is computed


def test_full_layer_is_computed_dense_between_sparse_ones(runtime, rng):
    layers = [
        random_layer(rng, 400, 300, 0.01, "relu"),
        random_layer(rng, 300, 300, 1, "relu"),
        random_layer(rng, 300, 10, 0.01),
    ]
    W = rng.standard_normal((300, 300), dtype=f4) / f4(20)
    layers[0] = Layer("l1", csr_array(numpy.eye(300, 400, dtype=f4)), None, "relu")
    layers[1] = Layer("l2", W, layers[1].b, "relu")
    layers[2] = random_layer(rng, 300, 10, 0.5)
    model = SparseModel(layers, batch_size=128)
    assert model.formats[1] == "dense"
    check(model, rng, batches=(0, 1, 40))


@needs_numba
@pytest.mark.parametrize("batch", [1, 33, 1000])
def test_threads_share_the_rows(rng, monkeypatch, batch):
    layers = [random_layer(rng, 60, 50, 0.1, "relu"), random_layer(rng, 50, 7, 0.3)]
    x = rng.standard_normal((batch, 60), dtype=f4)
    alone = SparseModel(layers, threads=1).predict(x)
    monkeypatch.setattr(runtime_module, "PARALLEL_FROM", 0)
    for threads in (2, 3, 8):
        model = SparseModel(layers, threads=threads)
        numpy.testing.assert_array_equal(model.predict(x), alone)


def test_shrinking_removes_units_that_do_nothing(rng):
    # Unit 0 is constant, unit 1 is not read, unit 3 has fewer weights than unit 2.
    first = numpy.asarray([[0, 0, 0], [1, 1, 0], [1, 2, 0], [0, 3, 0]], f4)
    second = numpy.asarray([[5, 0, 1, 2]], f4)
    bias = numpy.asarray([2, 1, 0, 0], f4)
    layers = [
        Layer("l1", csr_array(first), bias, "relu"),
        Layer("l2", csr_array(second), None),
    ]
    one, two = shrink(layers, (3,))
    numpy.testing.assert_array_equal(one.W.toarray(), [[0, 3, 0], [1, 2, 0]])
    numpy.testing.assert_array_equal(two.W.toarray(), [[2, 1]])
    numpy.testing.assert_array_equal(two.b, [10])


# What it takes


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, ::2],
        lambda x: numpy.asfortranarray(x[:, :20]),
        lambda x: x.reshape(len(x), 2, 20)[:, 0],
        lambda x: x[:, :20].reshape(len(x), 2, 5, 2),
        lambda x: x[::-1, :20],
        lambda x: numpy.frombuffer(b"." + x[:, :20].tobytes(), f4, offset=1).reshape(
            -1, 20
        ),
    ],
)
def test_any_layout_of_the_input(runtime, rng, make):
    model = SparseModel([random_layer(rng, 20, 3, 0.5)])
    x = make(rng.standard_normal((20, 40), dtype=f4))
    numpy.testing.assert_allclose(
        model.predict(x), reference(model.layers, x), atol=1e-5
    )


def test_read_only_and_mapped_input(runtime, rng, tmp_path):
    model = SparseModel([random_layer(rng, 20, 3, 0.5)])
    x = rng.standard_normal((20, 20), dtype=f4)
    expected = model.predict(x)
    numpy.save(tmp_path / "x.npy", x)
    mapped = numpy.load(tmp_path / "x.npy", mmap_mode="r")
    x.flags.writeable = False
    numpy.testing.assert_array_equal(model.predict(x), expected)
    numpy.testing.assert_array_equal(model(mapped), expected)


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (numpy.zeros((2, 5), f4), ValueError, r"\(batch, 4\).*got \(2, 5\)"),
        (numpy.zeros(4, f4), ValueError, r"\(batch, 4\).*got \(4,\)"),
        (numpy.zeros((2, 4)), TypeError, r"got float64;.*x\.astype\(numpy\.float32\)"),
        (numpy.zeros((2, 4), numpy.uint8), TypeError, "got uint8"),
        ([[0.0] * 4], TypeError, "must be a numpy.ndarray, got list"),
    ],
)
def test_wrong_input(rng, x, error, text):
    model = SparseModel([random_layer(rng, 4, 3, 0.5)])
    with pytest.raises(error, match=text):
        model.predict(x)


def test_traced_input_is_refused(rng):
    model = SparseModel([random_layer(rng, 4, 3, 0.5)])
    with pytest.raises(RuntimeError, match="no gradients; train the chain"):
        value_and_gradients(model.predict, [numpy.zeros((2, 4), f4)])


def test_answers_do_not_depend_on_the_training_mode(runtime, rng):
    model = SparseModel([random_layer(rng, 20, 3, 0.5)])
    x = rng.standard_normal((4, 20), dtype=f4)
    answers = []
    for train in (True, False):
        with vdcore.using_config("train", train):
            answers.append(model(x))
    numpy.testing.assert_array_equal(*answers)


def test_layers_on_top_of_a_sparse_model_are_trained(rng):
    """Its answers are data to them; it stays as it is."""
    features = SparseModel([random_layer(rng, 20, 8, 0.5, "tanh")])
    x, t = rng.standard_normal((30, 20), dtype=f4), rng.integers(2, size=30)
    head = L.Linear(8, 2)
    optimizer = optimizers.Adam(0.1).setup(head)
    losses = [
        float(optimizer.update(lambda: F.softmax_cross_entropy(head(features(x)), t)))
        for _ in range(30)
    ]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("options", [{"threads": 0}, {"batch_size": 1.5}])
def test_wrong_options(rng, options):
    with pytest.raises(ValueError, match="must be a positive integer"):
        SparseModel([random_layer(rng, 4, 3, 0.5)], **options)


# From a chain


def test_export_of_a_variational_chain(runtime, rng):
    model = pruned_chain(rng, 40, 30, 20, 5)
    sparse = model.to_cpu_sparse()
    x = rng.standard_normal((50, 40), dtype=f4)
    with vdcore.using_config("train", False):
        expected = model(x)
    numpy.testing.assert_allclose(sparse.predict(x), expected, atol=1e-5)
    numpy.testing.assert_allclose(sparse(x[:1]), expected[:1], atol=1e-5)
    assert [layer.name for layer in sparse.layers] == [
        "layers/0",
        "layers/1",
        "layers/2",
    ]


def test_lenet_300_100_as_training_leaves_it(runtime, rng):
    """The share of weights kept, their size and the inputs are those of MNIST runs."""
    model = pruned_chain(rng, 784, 300, 100, 10)
    x = rng.random((300, 784), dtype=f4)
    expected = x.astype(float)
    for link, share in zip(model.layers, (0.007, 0.015, 0.2), strict=True):
        shape = link.W.array.shape
        keep = rng.random(shape) < share
        scale = numpy.where(keep, 2 / math.sqrt(share * shape[1]), 1e-3)
        W = (rng.standard_normal(shape) * scale).astype(f4)
        la = numpy.where(keep, rng.uniform(-9, 2.9, shape), rng.uniform(3.1, 15, shape))
        link.W.array = W
        link.log_sigma2.array = (la + numpy.log(W**2 + 1e-8)).astype(f4)
        if link is not model.layers[0]:
            expected = numpy.maximum(expected, 0)
        expected = expected @ (W * keep).T.astype(float) + link.b.array
    assert 0.988 < 1 - model.size().weights_kept / model.size().weights < 0.993
    assert expected.std(axis=0).min() > 0.3  # the answers depend on the inputs

    with vdcore.using_config("train", False):
        dense = model(x)
    sparse = model.to_cpu_sparse()
    for batch in (1, 16, 300):
        y = sparse.predict(x[:batch])
        assert abs(y - dense[:batch]).max() <= 1e-5
        assert abs(y - expected[:batch]).max() <= 1e-5


def test_threshold_is_that_of_the_statistics(rng):
    model = pruned_chain(rng, 40, 30, 5)
    for link in model.layers:
        link.log_sigma2.array = rng.standard_normal(link.W.array.shape, dtype=f4)
        link.loga_threshold = 4.0
    sparse = model.to_cpu_sparse()
    assert [layer.kept for layer in sparse.layers] == [
        layer.weights_kept for layer in model.size().layers
    ]


@pytest.mark.parametrize("density", [0.1, 0.9])
def test_bytes_are_those_of_the_counting_rule(rng, density):
    model = pruned_chain(rng, 40, 30, 5)
    for link in model.layers:
        noise = rng.random(link.W.array.shape) > density
        link.log_sigma2.array = numpy.where(noise, f4(6), f4(-12))
    sparse = model.to_cpu_sparse()
    assert sparse.nbytes == model.size().sparse_bytes
    assert [layer.is_sparse for layer in sparse.layers] == [density == 0.1] * 2


def test_plain_layers_keep_all_weights(rng):
    model = Sequential(
        L.Linear(12, 9), F.tanh, Sequential(L.Linear(9, 4, nobias=True)), F.softmax
    )
    sparse = to_cpu_sparse(model)
    assert [layer.name for layer in sparse.layers] == ["0", "1/0"]
    assert [layer.activation for layer in sparse.layers] == ["tanh", "softmax"]
    assert [layer.kept for layer in sparse.layers] == [108, 36]
    x = rng.standard_normal((5, 12), dtype=f4)
    numpy.testing.assert_allclose(sparse(x), model(x), atol=1e-5)


def test_double_precision_weights_become_single(rng):
    link = L.Linear(6, 3)
    link.W.array = rng.standard_normal((3, 6))
    sparse = to_cpu_sparse(link)
    x = rng.standard_normal((5, 6), dtype=f4)
    numpy.testing.assert_allclose(sparse(x), x @ link.W.array.T, atol=1e-5)
    assert sparse.layers[0].name == "Linear"


def test_images_are_flattened(rng):
    model = Sequential(F.flatten, L.Linear(12, 3))
    x = rng.standard_normal((5, 3, 4), dtype=f4)
    sparse = to_cpu_sparse(model, in_shape=(3, 4))
    numpy.testing.assert_allclose(sparse(x), model(x), atol=1e-5)
    with pytest.raises(ValueError, match=r"takes 12 numbers an example, got shape"):
        to_cpu_sparse(model, in_shape=(3, 5))


@pytest.mark.parametrize("name", ["W", "b", "log_sigma2"])
def test_broken_weights_are_refused(rng, name):
    model = pruned_chain(rng, 6, 4, 3)
    getattr(model.layers[1], name).array.reshape(-1)[2] = numpy.nan
    with pytest.raises(ValueError, match=f"1 of .* values of `{name}` .*`layers/1`"):
        model.to_cpu_sparse()


def test_layer_of_unknown_shape_is_refused():
    with pytest.raises(RuntimeError, match="`0` is not known yet; call the model"):
        to_cpu_sparse(Sequential(L.Linear(None, 3)))


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        ([F.flatten], ValueError, "there is a layer"),
        ([L.Linear(3, 2), L.Linear(3, 2)], ValueError, "takes 3 numbers"),
        (
            [L.Linear(3, 2), F.softmax, L.Linear(2, 2)],
            ValueError,
            "only the last layer has a softmax",
        ),
    ],
)
def test_sequences_that_no_sparse_model_has(layers, error, text):
    with pytest.raises(error, match=text):
        to_cpu_sparse(Sequential(*layers))


def test_unknown_link_is_refused_by_path_and_class():
    class Twice(Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.fc = L.Linear(3, 3)

        def forward(self, x):
            return self.fc(x) * 2

    with pytest.raises(TypeError, match=r"to_cpu_sparse: link `/0` \(Twice\) uses"):
        to_cpu_sparse(Sequential(Twice()))


# Files


@pytest.fixture
def saved(rng, tmp_path):
    """A model of a sparse and a dense layer, and its file."""
    layers = [
        random_layer(rng, 60, 20, 0.1, "relu"),
        random_layer(rng, 20, 5, 1, bias=False),
    ]
    model = SparseModel(layers)
    model.save(tmp_path / "model.sparse")
    return model, tmp_path / "model.sparse"


def test_saved_and_loaded(saved, rng):
    model, path = saved
    loaded = sparse_backend.load(path, threads=1, batch_size=1)
    assert [layer.is_sparse for layer in loaded.layers] == [True, False]
    for before, after in zip(model.layers, loaded.layers, strict=True):
        assert before.arrays().keys() == after.arrays().keys()
        for key, array in before.arrays().items():
            numpy.testing.assert_array_equal(after.arrays()[key], array, strict=True)
    x = rng.standard_normal((40, 60), dtype=f4)
    numpy.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
    assert loaded.nbytes == model.nbytes


def test_loading_needs_numpy_and_scipy_only(saved, rng, runtime):
    model, path = saved
    x = rng.standard_normal((3, 60), dtype=f4)
    numpy.save(path.with_name("x.npy"), x)
    allowed = {"numpy", "scipy", "vdcore"} | (
        {"numba", "llvmlite"} if runtime == "compiled" else set()
    )
    program = f"""
import sys
allowed = {sorted(allowed)!r} + sorted(sys.stdlib_module_names)

class OnlyAllowed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed and not name.startswith("_"):
            raise ImportError(f"{{name}} is not for inference")

sys.meta_path.insert(0, OnlyAllowed())
import numpy
from vdcore.backends import sparse_backend
model = sparse_backend.load({str(path)!r})
numpy.save({str(path.with_name("y.npy"))!r}, model.predict(numpy.load(
    {str(path.with_name("x.npy"))!r})))
print(*model.formats)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == SparseModel(model.layers).formats
    y = numpy.load(path.with_name("y.npy"))
    numpy.testing.assert_allclose(y, model.predict(x), atol=1e-6)


def test_missing_file(tmp_path):
    expected = (
        r"load: there is no file `.*none\.npz`; expected a file written by "
        r"`model\.to_cpu_sparse\(\)\.save\(path\)`; check the path"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        sparse_backend.load(tmp_path / "none.npz")


def test_folder(tmp_path):
    expected = r"load: `.*` is a folder; expected a file .*; give the path of the file"
    with pytest.raises(IsADirectoryError, match=expected):
        sparse_backend.load(tmp_path)


def test_file_cut_short_at_any_length(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match=r"load: `.*sparse` is (damaged|not)"):
            sparse_backend.load(path)


@pytest.mark.parametrize("flipped", [0x0C, 0xFF])
def test_damaged_bytes_are_noticed_or_do_no_harm(saved, flipped):
    model, path = saved
    whole = path.read_bytes()
    refused = 0
    for position in range(flipped % 7, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= flipped
        path.write_bytes(damaged)
        try:
            loaded = sparse_backend.load(path)
        except FileFormatError:
            refused += 1
            continue
        for before, after in zip(model.layers, loaded.layers, strict=True):
            assert (before.name, before.activation) == (after.name, after.activation)
            for key, array in before.arrays().items():
                numpy.testing.assert_array_equal(array, after.arrays()[key])
    assert refused > len(whole) / 7 / 2  # the rest are dates, padding and the like


def test_a_damaged_weight_is_named(saved):
    _, path = saved
    damaged = bytearray(path.read_bytes())
    position = damaged.find(b"NUMPY", damaged.find(b"0/values")) + 130
    damaged[position] ^= 0xFF
    path.write_bytes(damaged)
    expected = r"load: `.*` is damaged .*CRC-32 for file '0/values.npy'.*; use another"
    with pytest.raises(FileFormatError, match=expected):
        sparse_backend.load(path)


@pytest.mark.parametrize("field", [4, 6, 8, 10, 12, 16, 20, 24, 28, 30, 32, 42])
def test_a_damaged_directory_is_noticed_or_does_no_harm(saved, field):
    """Zip file version, flags, method, time, checksum, sizes, lengths and offset."""
    model, path = saved
    damaged = bytearray(path.read_bytes())
    entry = damaged.rfind(b"PK\x01\x02")
    for flipped in (0x01, 0x08, 0x40, 0x80, 0xFF):
        changed = damaged.copy()
        changed[entry + field] ^= flipped
        path.write_bytes(changed)
        try:
            loaded = sparse_backend.load(path)
        except FileFormatError:
            continue
        x = numpy.ones((1, model.in_size), f4)
        numpy.testing.assert_array_equal(loaded(x), model(x))


def test_foreign_files(tmp_path):
    path = tmp_path / "other"
    numpy.save(tmp_path / "array.npy", numpy.zeros(3))
    array = (tmp_path / "array.npy").read_bytes()
    for content in (b"", b"hello", pickle.dumps({"W": 1}), array):
        path.write_bytes(content)
        with pytest.raises(
            FileFormatError, match=r"load: `.*other` is not an \.npz file, it begins"
        ):
            sparse_backend.load(path)
    numpy.savez(tmp_path / "chain.npz", **{"l1/W": numpy.zeros((2, 2))})
    with pytest.raises(FileFormatError, match="has no header of one, but l1/W"):
        sparse_backend.load(tmp_path / "chain.npz")


def test_pickle_inside_is_not_run(saved):
    _, path = saved
    rewrite(path, {"0/b": numpy.asarray([{"a": 1}], object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        sparse_backend.load(path)


def rewrite(path, changes, header=None):
    """Change entries of a file; None takes one out."""
    with numpy.load(path) as archive:
        entries = {name: archive[name] for name in archive.files}
    if header:
        head = json.loads(str(entries["header"]))
        header(head)
        entries["header"] = numpy.asarray(json.dumps(head))
    entries |= changes
    with open(path, "wb") as file:  # savez adds a suffix to a path
        numpy.savez(file, **{k: v for k, v in entries.items() if v is not None})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"header": None}, "has no header"),
        ({"0/b": None}, "0/b"),
        (
            {"extra": numpy.zeros(1)},
            r"entries are those of the header; got \['extra'\]",
        ),
        ({"0/b": numpy.zeros(20)}, r"layer 'l60': b of float32; got float64"),
        ({"0/b": numpy.zeros(19, f4)}, r"b of shape \(20,\); got \(19,\)"),
        ({"0/b": numpy.full(20, numpy.inf, f4)}, "b of finite values"),
        ({"1/W": numpy.zeros((5, 19), f4)}, r"W of shape \(5, 20\)"),
        ({"0/indptr": numpy.zeros(21, numpy.int32)}, "indptr that rises"),
        ({"0/indptr": numpy.zeros(20, numpy.int32)}, "indptr of shape"),
    ],
)
def test_damaged_entries_are_named(saved, changes, text):
    _, path = saved
    rewrite(path, changes)
    with pytest.raises(ValueError, match=text):
        sparse_backend.load(path)


def test_damaged_indices_are_named(saved):
    model, path = saved
    arrays = model.layers[0].arrays()
    changed = {name: array.copy() for name, array in arrays.items()}
    changed["indices"][3] = 60
    rewrite(path, {"0/indices": changed["indices"]})
    with pytest.raises(ValueError, match="indices below 60; got 60"):
        sparse_backend.load(path)
    changed["indptr"][[3, 4]] = changed["indptr"][[4, 3]] + [1, 0]
    rewrite(path, {"0/indices": arrays["indices"], "0/indptr": changed["indptr"]})
    with pytest.raises(ValueError, match="indptr that rises"):
        sparse_backend.load(path)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (lambda h: h.update(format="something"), "is of the format 'something'"),
        (lambda h: h.update(version=4), "version 4, and this vdcore reads 1 to 3"),
        (lambda h: h.pop("layers"), "is damaged"),
        (lambda h: h.update(layers=3), "is damaged"),
        (lambda h: h["layers"][0].update(activation="gelu"), "a known activation"),
        (lambda h: h["layers"][0].update(activation="softmax"), "only the last layer"),
        (lambda h: h["layers"][0].update(shape=[20, -60]), "positive integers"),
        (lambda h: h["layers"][1]["arrays"].append("0"), "is damaged"),
    ],
)
def test_damaged_header_is_named(saved, header, text):
    _, path = saved
    rewrite(path, {}, header)
    with pytest.raises(ValueError, match=text):
        sparse_backend.load(path)


def test_interrupted_save_leaves_the_former_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(numpy, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_file_holds_no_more_than_the_arrays_and_a_header(saved):
    model, path = saved
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if name != "header.npy"}
    assert names == {f"0/{name}.npy" for name in model.layers[0].arrays()} | {"1/W.npy"}


def test_summary():
    W = numpy.zeros((4, 100), f4)
    W[[0, 2], [3, 7]] = 1
    model = SparseModel(
        [
            pruned_layer("l1", W, W != 0, numpy.zeros(4, f4), "relu"),
            pruned_layer("l2", numpy.ones((2, 4), f4), numpy.ones((2, 4)) > 0, None),
        ],
        batch_size=1,
    )
    lines = [line.split() for line in model.summary().splitlines()]
    form = model.formats[0]
    assert lines == [
        "layer stored computed shape left weights zeros % bytes".split(),
        ["l1", "csr", form, "4x100", "2x100", "2", "/", "400", "99.50", "48"],
        ["l2", "dense", model.formats[1], "2x4", "2x2", "8", "/", "8", "0.00", "32"],
        ["total", "10", "/", "408", "97.55", "80"],
        ["architecture", "100-4,", "left", "2-2"],
    ]
