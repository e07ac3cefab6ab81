"""Recurrent networks against torch, differences and traced array functions."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy
import pytest

from vdcore import functions as F
from vdcore import kernels
from vdcore.arrays import array_namespace, to_numpy, untraced
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

GATES = {"lstm": 4, "gru": 3, "tanh_rnn": 1}
STATES = {"lstm": 2, "gru": 1, "tanh_rnn": 1}
SIZES = [(1, 1, 1), (1, 3, 2), (4, 1, 3), (5, 2, 1), (6, 3, 5)]  # time, batch, units
TOLERANCE = {"float32": 2e-5, "float64": 1e-11}


def draw(rng, name, size, dtype="float64"):
    """z, lateral weights, lateral bias where there is one, and the state."""
    time, batch, units = size
    rows = GATES[name] * units
    shapes = [(time, batch, rows), (rows, units)]
    shapes += [(rows,)] * (name == "gru") + [(batch, units)] * STATES[name]
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def both_results(name, **options):
    """The function, with all its results in one array: hidden states, then the cell."""

    def call(*arrays):
        result = getattr(F, name)(*arrays, **options)
        if name != "lstm":
            return result
        hs, c = result
        xp = array_namespace(hs, c)
        return xp.concat([hs, xp.expand_dims(c, axis=0)], axis=0)

    return call


def composed(name):
    """The same in traced array functions, step by step."""

    def sigmoid(x):
        return F.sigmoid(x)

    def call(z, W, *others):
        xp = array_namespace(z, W, *others)
        units = W.shape[1]
        b, h, c = None, others[-1], None
        if name == "gru":
            b, h = others
        if name == "lstm":
            h, c = others
        hs = []
        for t in range(z.shape[0]):
            a = xp.matmul(h, xp.matrix_transpose(W))
            x, a = ([v[:, k : k + units] for k in range(0, W.shape[0], units)]
                    for v in (z[t, ...], a if b is None else a + b))  # fmt: skip
            if name == "tanh_rnn":
                h = xp.tanh(x[0] + a[0])
            elif name == "gru":
                r, u = (sigmoid(x[k] + a[k]) for k in (0, 1))
                h = (1 - u) * xp.tanh(x[2] + r * a[2]) + u * h
            else:
                i, f, g, o = (p + q for p, q in zip(x, a, strict=True))
                c = sigmoid(f) * c + sigmoid(i) * xp.tanh(g)
                h = sigmoid(o) * xp.tanh(c)
            hs.append(h)
        return xp.stack(hs if c is None else [*hs, c], axis=0)

    return call


def slopes(library, function, arrays, weights):
    def scalar(*traced):
        y = function(*traced)
        return array_namespace(y).sum(y * library.asarray(weights))

    value, gradients = value_and_gradients(scalar, list(map(library.asarray, arrays)))
    return [value, *gradients]


def assert_close(ours, theirs, rtol):
    ours, theirs = to_numpy(ours), to_numpy(theirs)
    assert ours.dtype == theirs.dtype
    scale = max(1, numpy.abs(theirs).max())
    numpy.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", GATES)
def test_fused_is_the_composition(tape_library, rng, name, size, recompute):
    options = {} if name == "tanh_rnn" else {"recompute": recompute}
    arrays = draw(rng, name, size)
    fused, expected = both_results(name, **options), composed(name)
    y = to_numpy(expected(*map(tape_library.asarray, arrays)))
    assert_close(fused(*map(tape_library.asarray, arrays)), y, 1e-11)
    weights = rng.standard_normal(y.shape)
    pairs = (slopes(tape_library, f, arrays, weights) for f in (fused, expected))
    for ours, theirs in zip(*pairs, strict=True):
        assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", GATES)
def test_gradients(tape_library, rng, name, recompute):
    options = {} if name == "tanh_rnn" else {"recompute": recompute}
    arrays = [tape_library.asarray(a) for a in draw(rng, name, (4, 2, 3))]
    check_gradients(both_results(name, **options), arrays)


@pytest.mark.parametrize("used", ["hidden states", "cell", "last hidden state"])
def test_gradients_where_one_result_is_used(tape_library, rng, used):
    arrays = [tape_library.asarray(a) for a in draw(rng, "lstm", (3, 2, 2))]

    def function(*arrays):
        hs, c = F.lstm(*arrays)
        return {"hidden states": hs, "cell": c, "last hidden state": hs[-1, ...]}[used]

    check_gradients(function, arrays)


def test_one_sequence_is_two_one_after_the_other(tape_library, rng):
    """State and gradients go from the first to the second."""
    z, *others = (tape_library.asarray(a) for a in draw(rng, "lstm", (5, 2, 3)))

    def split(z, W, h, c):
        first, c = F.lstm(z[:2, ...], W, h, c)
        second, c = F.lstm(z[2:, ...], W, first[-1, ...], c)
        xp = array_namespace(z)
        return xp.concat([first, second, xp.expand_dims(c, axis=0)], axis=0)

    weights = rng.standard_normal((6, 2, 3))
    arrays = [z, *others]
    pairs = [
        slopes(tape_library, function, list(map(to_numpy, arrays)), weights)
        for function in (split, both_results("lstm"))
    ]
    for ours, theirs in zip(*pairs, strict=True):
        assert_close(ours, theirs, 1e-11)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", GATES)
def test_35_steps_are_torchs(tape_library, torch, rng, name, dtype):
    """With its weights, values and all gradients; torch adds a second bias."""
    time, batch, inputs, units = 35, 4, 7, 6
    kind = {"lstm": "LSTM", "gru": "GRU", "tanh_rnn": "RNN"}[name]
    layer = getattr(torch.nn, kind)(inputs, units).to(getattr(torch, dtype))
    x, gy = (
        rng.standard_normal((time, batch, n)).astype(dtype) for n in (inputs, units)
    )
    state = [rng.standard_normal((batch, units)).astype(dtype) for _ in range(2)]
    state = state[: STATES[name]]
    gc = rng.standard_normal((batch, units)).astype(dtype)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, *state)]
    first = [leaf[None] for leaf in leaves[1:]]
    y, last = layer(leaves[0], tuple(first) if name == "lstm" else first[0])
    loss = (y * torch.tensor(gy)).sum()
    if name == "lstm":
        loss = loss + (last[1][0] * torch.tensor(gc)).sum()
    parameters = dict(layer.named_parameters())
    expected = torch.autograd.grad(loss, [*leaves, *parameters.values()])

    def function(x, *others):
        state, (W_x, W_h, b_x, b_h) = others[:-4], others[-4:]
        z = F.linear(array_namespace(x).reshape(x, (-1, inputs)), W_x, b_x)
        z = array_namespace(z).reshape(z, (time, batch, -1))
        if name == "gru":
            return F.gru(z, W_h, b_h, *state)
        return both_results(name)(z + b_h, W_h, *state)

    arrays = [x, *state, *(p.detach().numpy() for p in parameters.values())]
    result = to_numpy(function(*map(tape_library.asarray, arrays)))
    assert_close(result[:time], y.detach().numpy(), TOLERANCE[dtype])
    weights = gy
    if name == "lstm":
        assert_close(result[time], last[1][0].detach().numpy(), TOLERANCE[dtype])
        weights = numpy.concatenate([gy, gc[None]])
    _, *gradients = slopes(tape_library, function, arrays, weights)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert_close(ours, theirs.numpy(), 10 * TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_cell_is_a_sequence_of_one_step(tape_library, rng, name):
    z, W, *others = map(tape_library.asarray, draw(rng, name, (1, 3, 2)))
    b, h = others if name == "gru" else (None, others[0])

    def step(z, *state):
        a = F.linear(h, W, b)
        if name == "gru":
            return F.gru_cell(z[0, ...], a, *state)
        xp = array_namespace(z)
        return xp.stack(list(F.lstm_cell(z[0, ...] + a, *state)), axis=0)

    def sequence(z, *state):
        if name == "gru":
            return F.gru(z, W, b, *state)[0, ...]
        hs, c = F.lstm(z, W, h, *state)
        return array_namespace(hs).stack([hs[0, ...], c], axis=0)

    arrays = [z, others[-1]]
    assert_close(step(*arrays), to_numpy(sequence(*arrays)), 1e-12)
    check_gradients(step, arrays)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_what_is_kept_between_the_passes(numpy_library, rng, name, recompute):
    """As documented, in numbers a step, unit and example."""
    z, *others = draw(rng, name, (40, 20, 30))
    numbers = []

    def scalar(x):
        xp = array_namespace(x)
        before = tracemalloc.get_traced_memory()[0]
        z = x * 2.0
        result = getattr(F, name)(z, *others, recompute=recompute)
        alive = weakref.ref(untraced(z))
        del z
        assert (alive() is not None) is recompute
        numbers.append((tracemalloc.get_traced_memory()[0] - before) / 8)
        return xp.sum(result[0] if name == "lstm" else result)

    value_and_gradients(scalar, [z])  # compiles
    tracemalloc.start()
    try:
        value_and_gradients(scalar, [z])
    finally:
        tracemalloc.stop()
    expected = {"lstm": (6, 5), "gru": (5, 4)}[name][recompute]
    assert numbers[-1] / (40 * 20 * 30) == pytest.approx(expected, abs=0.2)


def test_a_step_by_hand(library):
    """Gates (0, log 3, artanh .5, 0): .5, .75, .5, .5; c = .75 * 2 + .25 = 1.75."""
    z = [[[0.0, numpy.log(3), numpy.arctanh(0.5), 0.0]]]
    W = [[0.0]] * 4
    hs, c = F.lstm(*map(library.asarray, (z, W, [[1.0]], [[2.0]])))
    assert to_numpy(c).item() == pytest.approx(1.75, rel=1e-14)
    assert to_numpy(hs).item() == pytest.approx(0.5 * numpy.tanh(1.75), rel=1e-14)
    # Reset .75, update .25, n = tanh(1 + .75 * 2): .75 n + .25 * 4.
    z = [[[numpy.log(3), -numpy.log(3), 1.0]]]
    W, b, h = [[0.0], [0.0], [0.25]], [0.0, 0.0, 1.0], [[4.0]]
    hs = F.gru(*map(library.asarray, (z, W, b, h)))
    expected = 0.75 * numpy.tanh(2.5) + 1
    assert to_numpy(hs).item() == pytest.approx(expected, rel=1e-14)


def test_weights_of_chainer(rng):
    """The note of F.lstm: interleaved a, i, f, o become blocks i, f, g, o."""
    units, size = 2, 3
    W = rng.standard_normal((4 * units, size))
    ours = W.reshape(units, 4, -1)[:, [1, 2, 0, 3]].swapaxes(0, 1).reshape(W.shape)
    a, i, f, o = numpy.moveaxis(W.reshape(units, 4, size), 1, 0)
    numpy.testing.assert_array_equal(ours, numpy.concatenate([i, f, a, o]))


def test_recomputed_gates_are_the_first(rng):
    arrays = draw(rng, "lstm", (4, 2, 3))
    hs, cs, gates = kernels.lstm_forward(*arrays)
    for ours, expected in zip(
        kernels.lstm_recompute(*arrays, hs), (cs, gates), strict=True
    ):
        assert_close(ours, expected, 1e-13)
    arrays = draw(rng, "gru", (4, 2, 3))
    hs, gates = kernels.gru_forward(*arrays)
    assert_close(kernels.gru_recompute(*arrays, hs), gates, 1e-13)


@pytest.mark.parametrize("name", GATES)
def test_nan_is_not_hidden(tape_library, rng, name):
    z, *others = draw(rng, name, (4, 2, 3))
    z[1, 0, 2] = numpy.nan
    y = to_numpy(both_results(name)(*map(tape_library.asarray, (z, *others))))
    assert numpy.isnan(y[1, 0, 2])
    assert numpy.isnan(y[2:4, 0]).all()
    assert numpy.isfinite(y[0]).all()
    assert numpy.isfinite(y[:, 1]).all()


@pytest.mark.parametrize("name", GATES)
def test_large_numbers_do_not_overflow(tape_library, rng, name):
    z, *others = draw(rng, name, (3, 2, 2), "float32")
    arrays = [z * 1e4, *others]
    for array in slopes(tape_library, both_results(name), arrays, numpy.float32(1)):
        assert numpy.isfinite(to_numpy(array)).all()


@pytest.mark.parametrize("name", GATES)
def test_errors(tape_library, rng, name):
    z, W, *others = map(tape_library.asarray, draw(rng, name, (4, 2, 3)))
    cast, xp = tape_library.xp.astype, tape_library.xp
    function = getattr(F, name)
    rows = 3 * GATES[name]
    for error, text, arguments in (
        (TypeError, f"{name}: `z` must be an array, got list", ([1.0], W, *others)),
        (
            ValueError,
            rf"{name}: `z` must have shape \(time, batch, {rows}\), none of them 0, .*"
            rf"got \(0, 2, {rows}\)",
            (z[:0, ...], W, *others),
        ),
        (ValueError, rf"got \(4, 0, {rows}\)", (z[:, :0, :], W, *others)),
        (ValueError, rf"got \(2, {rows}\)", (z[0, ...], W, *others)),
        (
            ValueError,
            rf"{name}: `W` must have shape \(.*units, units\), got \({rows}, 2\)",
            (z, W[:, :2], *others),
        ),
        (
            ValueError,
            rf"{name}: `[hc]` must have shape \(2, 3\), for a batch of 2 and 3 units, "
            r"got \(1, 3\)",
            (z, W, *others[:-1], others[-1][:1, :]),
        ),
        (
            TypeError,
            f"{name}: `z` must have the dtype of `W`, .*64, got .*32",
            (cast(z, xp.float32), W, *others),
        ),
        (
            TypeError,
            f"{name}: `[hc]` must have the dtype of `W`, .*64, got .*32",
            (z, W, *others[:-1], cast(others[-1], xp.float32)),
        ),
        (
            TypeError,
            f"{name}: `W` must hold floating-point numbers, got .*int",
            [cast(a, xp.int64) for a in (z, W, *others)],
        ),
    ):
        with pytest.raises(error, match=text):
            function(*arguments)
    if name == "gru":
        with pytest.raises(ValueError, match=rf"`b` must have shape \({rows},\)"):
            F.gru(z, W, others[0][:1], others[1])
    if tape_library.name != "numpy":
        with pytest.raises(TypeError, match="all arrays must come from one library"):
            function(z, to_numpy(W), *others)


def test_errors_of_one_step(tape_library, rng):
    asarray, xp = tape_library.asarray, tape_library.xp
    c, a, z = (
        asarray(rng.standard_normal(shape)) for shape in ((2, 3), (2, 12), (2, 9))
    )
    for error, text, call in (
        (
            ValueError,
            r"lstm_cell: `a` must have shape \(2, 12\) to go with `c` of shape",
            lambda: F.lstm_cell(z, c),
        ),
        (
            ValueError,
            r"gru_cell: `a` must have shape \(2, 9\)",
            lambda: F.gru_cell(z, a, c),
        ),
        (
            ValueError,
            r"lstm_cell: `c` must have shape \(batch, units\), neither",
            lambda: F.lstm_cell(a, c[:0, :]),
        ),
        (
            TypeError,
            "lstm_cell: `a` must have the dtype of `c`, .*64, got .*32",
            lambda: F.lstm_cell(xp.astype(a, xp.float32), c),
        ),
        (
            TypeError,
            "gru_cell: `h` must be an array, got NoneType",
            lambda: F.gru_cell(z, z, None),
        ),
    ):
        with pytest.raises(error, match=text):
            call()
