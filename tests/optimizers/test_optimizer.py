"""What all optimizers share: the step, its errors, its state."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import Chain, Link, Parameter, initializers, optimizers, serializers
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import array_namespace, is_traced, to_numpy
from vdcore.backends.sparse_backend import to_cpu_sparse
from vdcore.optimizers import NonFiniteLossError

MAKERS = [
    optimizers.SGD,
    optimizers.MomentumSGD,
    optimizers.Adam,
    optimizers.AdaDelta,
]


class Net(Chain):
    def __init__(self, in_size=3):
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(in_size, 4)
            self.l2 = L.VariationalDropoutLinear(None if in_size is None else 4, 2)

    def forward(self, x):
        return self.l2(F.tanh(self.l1(x)))

    def loss(self, x, t, scale=1.0):
        return F.softmax_cross_entropy(self(x), t) * scale


@pytest.fixture
def data(rng):
    return rng.standard_normal((6, 3)).astype(numpy.float32), rng.integers(2, size=6)


def arrays(model):
    return {path: numpy.array(p.array) for path, p in model.namedparams()}


def test_update_sets_gradients_and_changes_every_parameter(data):
    model = Net()
    before = arrays(model)
    optimizer = optimizers.SGD(lr=0.5).setup(model)
    loss = optimizer.update(model.loss, *data)
    assert loss.shape == ()
    assert optimizer.t == 1
    for path, parameter in model.namedparams():
        assert not is_traced(parameter.array)
        assert parameter.array.dtype == parameter.grad.dtype == numpy.float32
        numpy.testing.assert_allclose(
            parameter.array, before[path] - 0.5 * parameter.grad, rtol=1e-6
        )
        if path != "/l2/log_sigma2":
            assert (parameter.array != before[path]).any()


def test_arguments_reach_the_loss_function(data):
    model = Net()
    model.l2.draw_noise = lambda shape, like: numpy.zeros(shape, like.dtype)
    optimizer = optimizers.SGD(lr=0.0).setup(model)
    first = optimizer.update(model.loss, *data)
    assert optimizer.update(model.loss, *data, scale=2.0) == 2 * first


def test_torch_with_the_same_weights(torch, data):
    """Ten steps of MomentumSGD on a two-layer network in double precision."""
    start = numpy.random.default_rng(1)
    values = [start.standard_normal(s) * 0.5 for s in ((4, 3), (4,), (2, 4), (2,))]
    x, t = data[0].astype(float), data[1]

    model = vdcore.Sequential(
        L.Linear(3, 4, initialW=values[0], initial_bias=values[1]),
        F.tanh,
        L.Linear(4, 2, initialW=values[2], initial_bias=values[3]),
    )
    optimizer = optimizers.MomentumSGD(lr=0.2, momentum=0.9).setup(model)
    ours = [
        float(optimizer.update(lambda: F.softmax_cross_entropy(model(x), t)))
        for _ in range(10)
    ]
    weights = [torch.tensor(v, requires_grad=True) for v in values]
    theirs = torch.optim.SGD(weights, lr=0.2, momentum=0.9)
    expected = []
    for _ in range(10):
        theirs.zero_grad()
        W1, b1, W2, b2 = weights
        scores = torch.tanh(torch.tensor(x) @ W1.T + b1) @ W2.T + b2
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor(t))
        loss.backward()
        theirs.step()
        expected.append(loss.item())
    assert ours == pytest.approx(expected, rel=1e-12)
    for parameter, weight in zip(model.params(), weights, strict=True):
        numpy.testing.assert_allclose(
            parameter.array, weight.detach().numpy(), rtol=1e-10
        )


def test_every_library_of_the_tape(tape_library, data):
    results = []
    for convert in (numpy.array, tape_library.asarray):
        vdcore.seed(0)
        model = Net()
        noise = numpy.random.default_rng(0).standard_normal((6, 2)).astype("float32")
        model.l2.draw_noise = lambda shape, like, n=noise, c=convert: c(n)
        for parameter in model.params():
            parameter.array = convert(parameter.array)
        optimizer = optimizers.Adam(alpha=0.01).setup(model)
        optimizer.add_hook(optimizers.WeightDecay(0.1))
        optimizer.add_hook(optimizers.GradientClipping(0.5))
        x, t = map(convert, data)
        losses = [float(optimizer.update(model.loss, x, t)) for _ in range(4)]
        assert {type(p.array) for p in model.params()} == {type(x)}
        results.append([losses, *(to_numpy(p.array) for p in model.params())])
    for ours, theirs in zip(*results, strict=True):
        numpy.testing.assert_allclose(theirs, ours, rtol=2e-4, atol=2e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's own
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", MAKERS)
def test_a_loss_that_is_not_finite_touches_nothing(data, make, value):
    model = Net()
    optimizer = make().setup(model)
    optimizer.update(model.loss, *data)
    before, grads = arrays(model), [p.grad for p in model.params()]
    state = {k: {n: a.copy() for n, a in s.items()} for k, s in optimizer.state.items()}
    expected = (
        f"update: the loss is {value}; this update changed no parameter. Lower the"
    )
    with pytest.raises(NonFiniteLossError, match=expected):
        optimizer.update(model.loss, *data, scale=value)
    assert optimizer.t == 1
    for path, array in arrays(model).items():
        numpy.testing.assert_array_equal(array, before[path])
    for parameter, grad in zip(model.params(), grads, strict=True):
        assert parameter.grad is grad
        assert not is_traced(parameter.array)
    for path, values in state.items():
        for name, array in values.items():
            numpy.testing.assert_array_equal(optimizer.state[path][name], array)


def test_an_error_in_the_loss_leaves_no_traced_arrays(data):
    model = Net()
    optimizer = optimizers.SGD().setup(model)
    with pytest.raises(ValueError, match="linear: `x` must have shape"):
        optimizer.update(model.loss, data[0][:, :2], data[1])
    assert not any(is_traced(p.array) for p in model.params())
    optimizer.update(model.loss, *data)


@pytest.mark.parametrize("make", MAKERS)
def test_shapes_that_are_not_known_yet(data, make):
    model = Net(in_size=None)
    optimizer = make().setup(model)
    optimizer.update(model.loss, *data)
    assert model.l1.W.array.shape == (4, 3)
    assert model.l2.log_sigma2.grad.shape == (2, 4)


def test_parameters_that_are_not_used_get_gradient_zero(data):
    model = Net()
    with model.init_scope():
        model.unused = L.Linear(2, 2)
    before = model.unused.W.array.copy()
    optimizers.Adam().setup(model).update(model.loss, *data)
    assert not model.unused.W.grad.any()
    numpy.testing.assert_array_equal(model.unused.W.array, before)


def test_without_a_loss_function_the_gradients_at_hand_are_used():
    link = L.Linear(2, 1, initialW=1)
    link.W.grad = numpy.ones((1, 2), numpy.float32)
    optimizers.SGD(lr=0.25).setup(link).update()
    assert link.W.array.tolist() == [[0.75, 0.75]]
    assert link.b.array.tolist() == [0]  # it has none


def test_setup_forgets():
    link = L.Linear(2, 1)
    optimizer = optimizers.Adam()
    assert optimizer.setup(link) is optimizer
    link.W.grad = numpy.ones((1, 2), numpy.float32)
    optimizer.update()
    optimizer.new_epoch()
    assert (optimizer.t, optimizer.epoch) == (1, 1)
    optimizer.setup(link)
    assert (optimizer.t, optimizer.epoch, optimizer.state) == (0, 0, {})


@pytest.mark.parametrize(
    "make_target",
    [
        to_cpu_sparse,
        lambda model: Net,
        lambda model: list(model.params()),
        lambda model: None,
    ],
    ids=["sparse model", "class", "parameters", "none"],
)
def test_a_target_that_is_no_link_is_refused_at_once(data, make_target):
    model = Net()
    optimizer = optimizers.SGD().setup(model)
    optimizer.update(model.loss, *data)
    target = make_target(model)
    expected = (
        f"setup: `link` must be a Link, such as a Chain, got {type(target).__name__}; "
        "give .* A sparse model is for inference: train the model that it was made from"
    )
    with pytest.raises(TypeError, match=expected):
        optimizer.setup(target)
    assert optimizer.target is model
    assert optimizer.t == 1


def test_a_target_is_needed(tmp_path):
    for call in (
        optimizers.Adam().update,
        lambda: serializers.save_npz(tmp_path / "o.npz", optimizers.Adam()),
    ):
        with pytest.raises(
            RuntimeError, match=r"Adam: no target; call setup\(model\) fi"
        ):
            call()


@pytest.mark.parametrize("make", MAKERS)
def test_a_run_goes_on_from_a_file_bit_for_bit(data, tmp_path, make):
    model = Net()
    optimizer = make().setup(model)
    for _ in range(3):
        optimizer.update(model.loss, *data)
    optimizer.new_epoch()
    serializers.save_npz(tmp_path / "model.npz", model)
    serializers.save_npz(tmp_path / "optimizer.npz", optimizer)
    expected = [float(optimizer.update(model.loss, *data)) for _ in range(3)]

    other = Net()
    again = make().setup(other)
    for name in again.hyperparameters:
        setattr(again, name, 0.123)  # the file's come back
    serializers.load_npz(tmp_path / "model.npz", other)
    serializers.load_npz(tmp_path / "optimizer.npz", again)
    assert (again.t, again.epoch) == (3, 1)
    assert [float(again.update(other.loss, *data)) for _ in range(3)] == expected
    for path, array in arrays(model).items():
        numpy.testing.assert_array_equal(arrays(other)[path], array)


def test_files_of_other_models_are_refused(data, tmp_path):
    model = Net()
    optimizer = optimizers.Adam().setup(model)
    optimizer.update(model.loss, *data)
    serializers.save_npz(tmp_path / "o.npz", optimizer)
    other = optimizers.Adam().setup(L.Linear(3, 4))
    with pytest.raises(serializers.FileFormatError, match="no entry 'state/W/m'"):
        serializers.load_npz(tmp_path / "o.npz", other)
    assert other.t == 0


def test_rates_may_change_in_training(data):
    model = Net()
    optimizer = optimizers.SGD(lr=1.0).setup(model)
    optimizer.lr = 0.0
    before = arrays(model)
    optimizer.update(model.loss, *data)
    for path, array in arrays(model).items():
        numpy.testing.assert_array_equal(array, before[path])


def test_a_sum_goes_down(tape_library):
    """Least squares by Adam to the solution."""

    class Quadratic(Link):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.x = Parameter(initializers.Constant(0), (3,))
            self.x.array = tape_library.asarray(self.x.array)

        def loss(self, target):
            d = self.x.array - target
            return array_namespace(d).sum(d * d)

    link = Quadratic()
    optimizer = optimizers.Adam(alpha=0.1).setup(link)
    target = tape_library.asarray(numpy.asarray([1.0, -2.0, 0.5], numpy.float32))
    losses = [float(optimizer.update(link.loss, target)) for _ in range(200)]
    assert losses[-1] < 1e-4 < losses[0]
    numpy.testing.assert_allclose(to_numpy(link.x.array), to_numpy(target), atol=0.01)


@pytest.mark.parametrize("make", MAKERS)
def test_arrays_that_cannot_be_written_to(make, data):
    """From JAX, or a memory map opened for reading."""
    model = Net()
    for parameter in model.params():
        parameter.array.flags.writeable = False
    before = arrays(model)
    optimizer = make().setup(model)
    optimizer.update(model.loss, *data)
    assert any((array != before[path]).any() for path, array in arrays(model).items())
