"""Plain layers made variational."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import Chain, ChainList, Sequential, serializers
from vdcore import functions as F
from vdcore import links as L


class Special(L.Linear):
    """A subclass, which may compute something else."""


class Inner(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.a = L.Linear(4, 4, nobias=True)
            self.b = L.Linear(4, 4)

    def forward(self, x):
        return self.b(F.relu(self.a(x)))


class Net(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.inner = Inner()
            self.items = ChainList(L.Linear(4, 4), Inner())
            self.head = Sequential(F.relu, L.Linear(4, 3), F.tanh)
            self.special = Special(3, 3)
            self.given = L.VariationalDropoutLinear(3, 2, loga_threshold=1)

    def forward(self, x):
        x = self.items[1](F.relu(self.items[0](self.inner(x))))
        return self.given(self.special(self.head(x)))


class NetVD(L.VariationalDropoutChain, Net):
    pass


CONVERTED = ["/inner/a", "/inner/b", "/items/0", "/items/1/a", "/items/1/b", "/head/0"]


@pytest.fixture(params=["function", "method"])
def convert(request):
    if request.param == "function":
        return Net, L.to_variational_dropout
    return NetVD, lambda model, **options: model.to_variational_dropout(**options)


def test_every_depth_is_reached(convert):
    make, convert = convert
    model = make()
    given, special = model.given, model.special
    assert convert(model, initial_log_sigma2=-8, loga_threshold=2.5) is model
    links = dict(model.namedlinks())
    for path in CONVERTED:
        link = links[path]
        assert type(link) is L.VariationalDropoutLinear
        assert (link.log_sigma2.array == -8).all()
        assert link.loga_threshold == 2.5
        assert link.name == path.rsplit("/", 1)[1]
    assert model.given is given
    assert given.loga_threshold == 1
    assert model.special is special
    assert len(list(L.get_vd_links(model))) == len(CONVERTED) + 1


def test_weights_are_copied_and_bias_stays_absent():
    model = Net()
    model.inner.b.b.array += 7
    before = {path: p.array.copy() for path, p in model.namedparams()}
    old = model.inner.b.W.array
    L.to_variational_dropout(model)
    after = {path: p.array for path, p in model.namedparams()}
    for path, array in before.items():
        numpy.testing.assert_array_equal(after[path], array)
    added = [path + "/log_sigma2" for path in CONVERTED]
    assert sorted(after) == sorted([*before, *added])
    assert model.inner.a.b is None
    assert not numpy.shares_memory(old, model.inner.b.W.array)


def test_the_same_output_as_before_when_nothing_is_noise(rng):
    model = Net()
    x = rng.standard_normal((5, 4)).astype(numpy.float32)
    with vdcore.using_config("train", False):
        before = model(x)
        L.to_variational_dropout(model, initial_log_sigma2=-30)
        numpy.testing.assert_allclose(model(x), before, rtol=1e-6)


def test_layers_without_a_shape_yet(rng):
    model = Sequential(L.Linear(None, 4, nobias=True), F.relu, L.Linear(2))
    L.to_variational_dropout(model)
    x = rng.standard_normal((3, 5)).astype(numpy.float32)
    assert model(x).shape == (3, 2)
    assert model[0].log_sigma2.array.shape == (4, 5)
    assert model[0].b is None
    assert model[1].W.array.shape == (2, 4)
    # The weights are those of the initializer, not some left over from elsewhere.
    assert model[0].W.array.std() == pytest.approx(5**-0.5, rel=0.5)


class Images(Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.inner = Sequential(L.Convolution2D(None, 4, 3, nobias=True), F.relu)
            self.fc = L.Linear(2)

    def forward(self, x):
        return self.fc(self.inner(x))


class ImagesVD(L.VariationalDropoutChain, Images):
    pass


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("size", lambda model: model.size()),
        ("calculate_stats", L.calculate_stats),
        ("log_alpha", lambda model: L.calculate_p(model.inner[0])),
        ("masked_W", lambda model: model.inner[0].masked_W()),
        ("penalty", lambda model: model.inner[0].penalty(1.0)),
        ("to_cpu_sparse", lambda model: model.to_cpu_sparse((3, 5, 5))),
    ],
)
def test_what_needs_a_shape_says_so(rng, operation, call):
    model = ImagesVD(num_examples=10).to_variational_dropout()
    expected = f"^{operation}: the shape of layer .*0.* is not known yet; call the mod"
    with pytest.raises(RuntimeError, match=expected):
        call(model)
    x = rng.standard_normal((2, 3, 5, 5)).astype(numpy.float32)
    model.calc_loss(x, numpy.zeros(2, numpy.int32))
    assert model.inner[0].b is None
    assert [layer.weights for layer in model.size().layers] == [108, 72]
    call(model)


def test_two_stages_from_a_saved_dense_file(tmp_path, rng):
    """Train dense, save; load into a new model, convert, go on."""
    dense = Net()
    serializers.save_npz(tmp_path / "dense.npz", dense)
    model = NetVD(num_examples=10)
    serializers.load_npz(tmp_path / "dense.npz", model)
    model.to_variational_dropout(initial_log_sigma2=-30)
    x = rng.standard_normal((5, 4)).astype(numpy.float32)
    with vdcore.using_config("train", False):
        numpy.testing.assert_allclose(model(x), dense(x), rtol=1e-6)


def test_other_libraries(tape_library, rng):
    model = Net()
    for parameter in model.params():
        parameter.array = tape_library.asarray(parameter.array)
    L.to_variational_dropout(model)
    arrays = [p.array for p in model.params()]
    assert {type(array) for array in arrays} == {type(tape_library.asarray([0.0]))}


def test_float64_weights_get_float64_variances():
    model = Sequential(L.Linear(2, 3, initialW=numpy.ones((3, 2))))
    L.to_variational_dropout(model, initial_log_sigma2=-8)
    assert {p.array.dtype for p in model.params()} == {numpy.dtype(float)}
    assert model(numpy.ones((1, 2))).dtype == numpy.float64


def test_verbose_names_every_link(capsys):
    L.to_variational_dropout(Net(), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    for path in CONVERTED:
        assert f"Replace link {path} (Linear)" in lines
    assert "Retain link /special (Special)" in lines
    assert "Retain link /given (VariationalDropoutLinear)" in lines


def test_a_layer_itself_has_no_parent():
    expected = "must be a link that holds layers, got a Linear itself; use Variational"
    with pytest.raises(TypeError, match=expected):
        L.to_variational_dropout(L.Linear(2, 2))


def test_converting_twice_changes_nothing():
    model = Net()
    L.to_variational_dropout(model)
    links = list(model.links())
    L.to_variational_dropout(model, initial_log_sigma2=0)
    assert list(model.links()) == links


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="log_sigma"):
        L.to_variational_dropout(Net(), log_sigma=3)
