"""Recurrent layers: what they compute, and the state that they carry."""

from __future__ import annotations

import math

import numpy
import pytest

import vdcore
from vdcore import Chain, initializers, optimizers, serializers
from vdcore import functions as F
from vdcore import links as L
from vdcore.arrays import array_namespace, is_traced, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.optimizers import NonFiniteLossError
from vdcore.optimizers.optimizer import compute_gradients

LINKS = {"LSTM": L.LSTM, "StatefulGRU": L.StatefulGRU, "TanhRNN": L.TanhRNN}
GATES = {"LSTM": 4, "StatefulGRU": 3, "TanhRNN": 1}
TORCH = {"LSTM": "LSTM", "StatefulGRU": "GRU", "TanhRNN": "RNN"}


def make(name, in_size=3, out_size=4, dtype="float64", **options):
    normal = initializers.Normal(0.5, dtype=dtype)
    inits = {"upward_init": normal, "lateral_init": normal, "bias_init": normal}
    if name == "LSTM":
        inits["forget_bias_init"] = normal
    return LINKS[name](in_size, out_size, **(inits | options))


def moved(link, library):
    for parameter in link.params():
        parameter.array = library.asarray(parameter.array)
    return link


def states(link):
    return [getattr(link, name) for name in link.state_names]


def assert_states(link, expected, **tolerance):
    for ours, theirs in zip(states(link), expected, strict=True):
        assert_same(ours, theirs, **tolerance)


def assert_same(ours, theirs, rtol=0.0, atol=0.0):
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    assert ours.dtype == theirs.dtype
    numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


@pytest.fixture(params=list(LINKS))
def name(request):
    return request.param


@pytest.fixture
def xs(rng):
    """Five steps of a batch of two."""
    return rng.standard_normal((5, 2, 3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_with_the_same_weights(torch, rng, name, dtype):
    """Two windows of 35 steps, the second from the state that the first one left."""
    link = make(name, 7, 6, dtype)
    xs = rng.standard_normal((70, 4, 7)).astype(dtype)
    layer = getattr(torch.nn, TORCH[name])(7, 6).to(getattr(torch, dtype))
    given = {"weight_ih_l0": link.upward.W, "bias_ih_l0": link.upward.b}
    given |= {"weight_hh_l0": link.lateral.W, "bias_hh_l0": link.lateral.b}
    with torch.no_grad():
        for key, parameter in given.items():
            value = 0 if parameter is None else torch.tensor(parameter.array)
            getattr(layer, key).copy_(value)
        expected, last = layer(torch.tensor(xs))
    y = numpy.concatenate([link(xs[:35]), link(xs[35:])])
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == "float32" else 1e-13}
    assert_same(y, expected.numpy(), **tolerance)
    last = last[::-1] if name == "LSTM" else [last]  # ours: c, then h
    assert_states(link, [each[0].numpy() for each in last], **tolerance)


def test_every_library(library, xs, name):
    link = make(name)
    expected = link(xs)
    last = states(link)
    link.reset_state()
    moved(link, library)
    y = link(library.asarray(xs))
    assert type(y) is type(library.asarray(xs))
    assert_same(y, expected, rtol=1e-12)
    assert_states(link, last, rtol=1e-12)
    y = link(library.asarray(xs[0]))
    assert tuple(y.shape) == (2, 4)


def test_a_sequence_is_its_steps(tape_library, xs, name):
    link = moved(make(name), tape_library)
    y = link(tape_library.asarray(xs))
    last = states(link)
    link.reset_state()
    for t in range(5):
        step = link(tape_library.asarray(xs[t]))
        assert_same(step, to_numpy(y)[t], rtol=1e-13)
    assert_states(link, last, rtol=1e-13)


@pytest.mark.parametrize("form", ["plain", "weights", "activations"])
@pytest.mark.parametrize("train", [True, False])
def test_the_hidden_state_counts(xs, name, form, train):
    """The Chainer original feeds `x` to its lateral layer, and no `h` at all."""
    link = make(name)
    assert tuple(link.lateral.W.array.shape) == (GATES[name] * 4, 4)
    assert tuple(link.upward.W.array.shape) == (GATES[name] * 4, 3)
    if form != "plain":
        kind = getattr(L, f"VariationalDropout{name.removeprefix('Stateful')}")
        link = kind.from_link(link, noise=form)
    outputs = []
    for h in (0.0, 1.0):
        same = link.copy()  # with the same generators
        c = {"c": numpy.zeros((2, 4))} if name == "LSTM" else {}
        same.set_state(h=numpy.full((2, 4), h), **c)
        with vdcore.using_config("train", train):
            outputs.append(same(xs))
    difference = abs(outputs[0] - outputs[1]).max(axis=(1, 2))
    assert (difference > 1e-3).all()


def test_gradients_go_through_the_steps_of_an_update(tape_library, xs, name):
    """Step by step or all at once: the same gradients."""
    slopes = []
    for by_step in (True, False):
        vdcore.seed(0)
        link = moved(make(name), tape_library)
        x = tape_library.asarray(xs)

        def loss(x=x, link=link, by_step=by_step):
            link.reset_state()
            if not by_step:
                y = link(x)[-1, ...]
            else:
                for t in range(5):
                    y = link(x[t, ...])
            return array_namespace(y).sum(y * y)

        compute_gradients(link, loss)
        slopes.append([to_numpy(parameter.grad) for parameter in link.params()])
    for first, second in zip(*slopes, strict=True):
        assert abs(first).max() > 1e-3
        assert_same(first, second, rtol=1e-10, atol=1e-12)


def test_gradients_end_where_the_update_begins(tape_library, xs, name):
    """Truncated backpropagation: the second window takes the state as given."""
    link = moved(make(name), tape_library)
    first, second = (tape_library.asarray(x) for x in (xs[:3], xs[3:]))

    def loss(x, **state):
        y = link(x, **state)
        y = y[0] if isinstance(y, tuple) else y
        return array_namespace(y).sum(y * y)

    compute_gradients(link, loss, first)
    given = dict(zip(link.state_names, states(link), strict=True))
    assert not any(map(is_traced, given.values()))
    compute_gradients(link, loss, second, **given)
    expected = [to_numpy(p.grad) for p in link.params()]
    compute_gradients(link, loss, second)
    for parameter, slope in zip(link.params(), expected, strict=True):
        assert_same(parameter.grad, slope)


def test_recompute_changes_nothing(xs):
    for name in ("LSTM", "StatefulGRU"):
        slopes = []
        for recompute in (False, True):
            vdcore.seed(0)
            link = make(name, recompute=recompute)
            compute_gradients(link, lambda link=link: (link(xs) ** 2).sum())
            slopes.append([p.grad for p in link.params()])
        for a, b in zip(*slopes, strict=True):
            assert_same(a, b, rtol=1e-11, atol=1e-13)


def test_a_state_that_is_given_is_not_the_links(xs, name):
    link = make(name)
    link(xs)
    before = [state + 0 for state in states(link)]
    given = dict.fromkeys(link.state_names, numpy.full((2, 4), 0.3))
    result = link(xs, **given)
    y = result[0] if name == "LSTM" else result
    assert_states(link, before)
    link.set_state(**given)
    assert_same(link(xs), y)
    if name == "LSTM":
        assert_same(link.c, result[1])
        link.set_state(c=numpy.zeros((2, 4)), h=given["h"])
        assert_same(link(xs), link(xs, h=given["h"])[0])
        link.set_state(c=given["c"], h=numpy.zeros((2, 4)))
        assert_same(link(xs), link(xs, c=given["c"])[0])


def test_gradients_go_through_a_state_that_is_set(tape_library, xs, name):
    """As from an encoder to a decoder."""
    link = moved(make(name), tape_library)
    state = {key: tape_library.asarray(xs[0, :, :1] + 0 * numpy.ones(4))
             for key in link.state_names}  # fmt: skip

    def loss(*arrays):
        link.set_state(**dict(zip(link.state_names, arrays, strict=True)))
        y = link(tape_library.asarray(xs))
        return array_namespace(y).sum(y * y)

    _, slopes = value_and_gradients(loss, list(state.values()))
    for slope in slopes:
        assert (to_numpy(slope) != 0).all()


def test_states_share_no_memory(xs, name):
    link = make(name)
    given = {key: numpy.full((2, 4), 0.3) for key in link.state_names}
    link.set_state(**given)
    for state, array in zip(states(link), given.values(), strict=True):
        assert not numpy.shares_memory(state, array)
    y = link(xs)
    assert not any(numpy.shares_memory(state, y) for state in states(link))


def test_reset_state(xs, name):
    link = make(name)
    assert states(link) == [None] * len(link.state_names)
    y = link(xs)
    assert abs(link(xs) - y).max() > 1e-3
    link.reset_state()
    assert_same(link(xs), y)


def test_another_batch_size_is_refused(xs, name):
    link = make(name)
    link(xs)
    text = (
        rf"^{name}: `[ch]` must have shape \(1, 4\), for a batch of 1, got \(2, 4\), "
        r"which a call with another batch left; call reset_state\(\)"
    )
    with pytest.raises(ValueError, match=text):
        link(xs[:, :1])
    link.reset_state()
    link(xs[:, :1])


@pytest.mark.parametrize("arguments", [(None, 4), (4,)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_input_size_from_the_first_call(tape_library, xs, name, arguments, ndim):
    link = LINKS[name](*arguments)
    assert link.in_size is None
    assert link.out_size == 4
    moved(link.lateral, tape_library)
    link.upward.b.array = tape_library.asarray(link.upward.b.array)
    x = tape_library.asarray(xs[0].astype("f4") if ndim == 2 else xs.astype("f4"))
    assert tuple(link(x).shape) == (*x.shape[:-1], 4)
    assert link.in_size == 3
    assert type(link.upward.W.array) is type(x)


def test_first_values(name):
    vdcore.seed(3)
    link = LINKS[name](300, 200)
    for child, fan_in in ((link.upward, 300), (link.lateral, 200)):
        size = child.W.array.size
        assert child.W.array.dtype == numpy.float32
        assert child.W.array.var() * fan_in == pytest.approx(
            1, abs=5 * math.sqrt(2 / size)
        )
    bias = link.upward.b.array.reshape(GATES[name], 200)
    expected = [0, 1, 0, 0] if name == "LSTM" else [0] * GATES[name]
    numpy.testing.assert_array_equal(bias, numpy.outer(expected, numpy.ones(200)))
    assert (link.lateral.b is None) == (name != "StatefulGRU")
    expected = {"/upward/W", "/upward/b", "/lateral/W"}
    expected |= {"/lateral/b"} if name == "StatefulGRU" else set()
    assert {path for path, _ in link.namedparams()} == expected


def test_biases_of_an_lstm():
    link = L.LSTM(2, 1, bias_init=0.25, forget_bias_init=0)
    assert link.upward.b.array.tolist() == [0.25, 0, 0.25, 0.25]


def test_gates_are_orthogonal_each_by_itself(name):
    link = LINKS[name](3, 5, lateral_init=initializers.Orthogonal(dtype="float64"))
    for block in link.lateral.W.array.reshape(-1, 5, 5):
        numpy.testing.assert_allclose(block @ block.T, numpy.eye(5), atol=1e-12)
    assert link.upward.W.array.dtype == numpy.float32


def test_an_array_is_that_of_all_gates(rng, name):
    W = rng.standard_normal((GATES[name] * 2, 2)).astype("f4")
    link = LINKS[name](None, 2, lateral_init=W)
    assert_same(link.lateral.W.array, W)


def test_one_dtype_for_all(name):
    link = LINKS[name](3, 2, upward_init=initializers.Normal(dtype="float64"))
    assert {parameter.array.dtype.name for parameter in link.params()} == {"float64"}


def test_bad_sizes(name):
    for sizes, argument in (((2, 0), "out"), ((0,), "out"), ((0, 2), "in")):
        text = f"{name}: `{argument}_size` must be a positive integer, got 0"
        with pytest.raises(ValueError, match=text):
            LINKS[name](*sizes)


def test_bad_input(tape_library, xs, name):
    link = moved(make(name), tape_library)
    shape = rf"^{name}: `x` must have shape \(batch, 3\), for one step, or "
    shape += r"\(time, batch, 3\), none of them 0, got "
    empty = (xs[:0], xs[:, :0], xs[..., :0])
    for x in (*empty, xs[..., :2], xs[0, 0], xs[None]):
        with pytest.raises(ValueError, match=shape):
            link(tape_library.asarray(x))
    with pytest.raises(TypeError, match=f"^{name}: `x` must be an array, got list"):
        link([[1.0]])
    with pytest.raises(TypeError, match=r"`x` must have the dtype of `W`, .*64, got"):
        link(tape_library.asarray(xs.astype("f4")))
    with pytest.raises(TypeError, match=r"`x` must have the dtype of `W`, .*64, got"):
        link(tape_library.asarray(xs.astype("i4")))
    assert states(link) == [None] * len(link.state_names)


def test_bad_states(xs, name):
    link = make(name)
    good = {key: numpy.zeros((2, 4)) for key in link.state_names}
    text = rf"{name}.set_state: `h` must have shape \(batch, 4\).*got"
    for h in (numpy.zeros((2, 3)), numpy.zeros(4), numpy.zeros((0, 4))):
        with pytest.raises(ValueError, match=text.replace("`h`", "`[ch]`")):
            link.set_state(**(good | {"h": h}))
    with pytest.raises(TypeError, match=f"{name}.set_state: `h` must be an array"):
        link.set_state(**(good | {"h": None}))
    with pytest.raises(TypeError, match="`h` must have the dtype of `W`, float64"):
        link.set_state(**(good | {"h": numpy.zeros((2, 4), "f4")}))
    assert states(link) == [None] * len(link.state_names)
    text = rf"{name}: `h` must have shape \(2, 4\), for a batch of 2, got \(1, 4\)$"
    with pytest.raises(ValueError, match=text):
        link(xs, h=numpy.zeros((1, 4)))
    with pytest.raises(TypeError, match=f"{name}: `h` must be an array, got float"):
        link(xs, h=0.5)
    if name == "LSTM":
        with pytest.raises(ValueError, match="the same batch in all"):
            link.set_state(c=numpy.zeros((3, 4)), h=numpy.zeros((2, 4)))


# ------------------------------------------------------------------- states in training


class Model(Chain):
    def __init__(self, link):
        super().__init__()
        with self.init_scope():
            self.rnn = link

    def loss(self, x, scale=1.0, fail=False):
        y = self.rnn(x)
        if fail:
            message = "by the loss"
            raise ZeroDivisionError(message)
        return array_namespace(y).sum(y * y) * scale


def test_no_trace_is_left_behind(tape_library, xs, name):
    model = Model(moved(make(name), tape_library))
    optimizer = optimizers.Adam().setup(model)
    x = tape_library.asarray(xs)
    for arguments, error in (((), None), ((math.nan,), NonFiniteLossError)):
        if error is None or tape_library.name == "cupy":
            optimizer.update(model.loss, x, *arguments)
        else:
            with pytest.raises(error):
                optimizer.update(model.loss, x, *arguments)
        for link in model.links():
            assert not any(map(is_traced, vars(link).values()))
    for state in states(model.rnn):
        assert type(state) is type(x)
        assert tuple(state.shape) == (2, 4)


@pytest.mark.parametrize("arguments", [(math.nan,), (1.0, True)])
def test_a_failed_update_leaves_the_state(xs, name, arguments):
    model = Model(make(name))
    optimizer = optimizers.SGD(0.1).setup(model)
    errors = (NonFiniteLossError, ZeroDivisionError)
    with pytest.raises(errors):
        optimizer.update(model.loss, xs, *arguments)
    assert states(model.rnn) == [None] * len(model.rnn.state_names)
    optimizer.update(model.loss, xs)
    before = [state + 0 for state in states(model.rnn)]
    with pytest.raises(errors):
        optimizer.update(model.loss, xs, *arguments)
    assert_states(model.rnn, before)
    optimizer.update(model.loss, xs)


def test_the_first_update_runs_the_window_once(xs, name):
    """Though the call that makes the parameters does so too."""
    model = Model(LINKS[name](None, 4))
    x = xs.astype("f4")
    optimizers.SGD(0.0).setup(model).update(model.loss, x)
    after = states(model.rnn)
    model.rnn.reset_state()
    model.rnn(x)
    assert_states(model.rnn, after, rtol=1e-6)


def test_a_resumed_training_continues(tmp_path, rng, name):
    """Bit for bit, with noise, from the state in the middle of a text."""
    form = getattr(L, f"VariationalDropout{name.removeprefix('Stateful')}")
    windows = rng.standard_normal((4, 5, 2, 3)).astype("f4")

    def start():
        vdcore.seed(5)
        model = Model(form(3, 4))
        return model, optimizers.Adam(0.1).setup(model)

    model, optimizer = start()
    for k, window in enumerate(windows):
        if k == 2:
            serializers.save_npz(tmp_path / "model.npz", model)
            serializers.save_npz(tmp_path / "optimizer.npz", optimizer)
        optimizer.update(model.loss, window)
    other, resumed = start()
    serializers.load_npz(tmp_path / "model.npz", other)
    serializers.load_npz(tmp_path / "optimizer.npz", resumed)
    for window in windows[2:]:
        resumed.update(other.loss, window)
    for mine, theirs in zip(model.params(), other.params(), strict=True):
        numpy.testing.assert_array_equal(mine.array, theirs.array)
    assert_states(other.rnn, states(model.rnn))


def test_a_fresh_state_is_saved_too(tmp_path, name):
    model = Model(make(name))
    optimizer = optimizers.SGD().setup(model)
    serializers.save_npz(tmp_path / "optimizer.npz", optimizer)
    serializers.load_npz(tmp_path / "optimizer.npz", optimizer)
    assert states(model.rnn) == [None] * len(model.rnn.state_names)


def test_a_model_file_holds_no_state(tmp_path, xs, name):
    link = make(name)
    link(xs)
    serializers.save_npz(tmp_path / "l.npz", link)
    with numpy.load(tmp_path / "l.npz") as file:
        assert set(file) == {path[1:] for path, _ in link.namedparams()}


def test_copies_have_states_of_their_own(xs, name):
    link = make(name)
    link(xs)
    other = link.copy()
    assert_same(other(xs), link(xs))
    other.reset_state()
    assert all(state is not None for state in states(link))


def test_states_move_with_the_link(cupy, xs, name):
    link = make(name)
    expected = link(xs), link(xs)
    link.reset_state()
    link(xs)
    link.to_device(0)
    assert all(type(state) is cupy.ndarray for state in states(link))
    assert_same(link(cupy.asarray(xs)), expected[1], rtol=1e-12)
    link.to_cpu()
    assert all(type(state) is numpy.ndarray for state in states(link))


@pytest.mark.parametrize("noise", ["weights", "activations"])
def test_an_update_waits_for_no_gpu(cupy, emulation, xs, name, noise):
    form = getattr(L, f"VariationalDropout{name.removeprefix('Stateful')}")
    model = Model(form(3, 4, noise=noise)).to_device(0)
    optimizer = optimizers.SGD(0.1).setup(model)
    x = cupy.asarray(xs.astype("f4"))
    for _ in range(2):
        optimizer.update(model.loss, x)
    with emulation.transfers() as moved:
        optimizer.update(model.loss, x)
    assert moved.to_device == moved.to_host == moved.synchronizations == 0


def test_values_by_hand():
    """One unit, weights 1: tanh(1), then tanh(1 + tanh(1))."""
    link = L.TanhRNN(1, 1, upward_init=1, lateral_init=1)
    y = link(numpy.ones((2, 1, 1), "f4"))
    expected = [math.tanh(1), math.tanh(1 + math.tanh(1))]
    numpy.testing.assert_allclose(y.ravel(), expected, rtol=1e-6)


def test_gradients_reach_the_input(tape_library, xs, name):
    link = moved(make(name), tape_library)

    def loss(x):
        y = link(x)
        return array_namespace(y).sum(y * y)

    _, (slope,) = value_and_gradients(loss, [tape_library.asarray(xs)])
    assert (to_numpy(slope) != 0).all()
    link.reset_state()  # its state is of a trace that has ended
    y = to_numpy(F.tanh(link(tape_library.asarray(xs))))
    assert numpy.isfinite(y).all()
