"""The update rules against double precision and against torch.optim."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore import Link, Parameter, initializers, optimizers
from vdcore.arrays import to_numpy

START = numpy.asarray([1.0, -2.0, 0.5, 3.0])
STEPS = 20


def gradients():
    """A sequence of gradients over five orders of magnitude, with zeros."""
    rng = numpy.random.default_rng(0)
    values = rng.standard_normal((STEPS, 4)) * 10.0 ** rng.uniform(-4, 1, (STEPS, 4))
    values[3:6, 1] = 0
    return values


class One(Link):
    def __init__(self, array):
        super().__init__()
        with self.init_scope():
            self.p = Parameter(initializers.Constant(0), (4,))
        self.p.array = array


def sgd(x, state, g, t):
    """Robbins, Monro 1951, with a constant step."""
    return x - 0.1 * g


def momentum(x, state, g, t):
    """Polyak 1964, as in Sutskever et al. 2013, equations 1 and 2."""
    state["v"] = 0.8 * state.get("v", 0) - 0.1 * g
    return x + state["v"]


def adam(x, state, g, t):
    """Kingma, Ba 2015, algorithm 1 in the order of operations that section 2 ends with.

    There eps is added to the uncorrected root.
    """
    m = state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    v = state["v"] = 0.99 * state.get("v", 0) + 0.01 * g * g
    step = 0.05 * math.sqrt(1 - 0.99**t) / (1 - 0.9**t)
    return x - step * m / (numpy.sqrt(v) + 1e-3)


def adadelta(x, state, g, t):
    """Zeiler 2012, algorithm 1."""
    state["g"] = 0.9 * state.get("g", 0) + 0.1 * g * g
    step = numpy.sqrt((state.get("d", 0) + 1e-4) / (state["g"] + 1e-4)) * g
    state["d"] = 0.9 * state.get("d", 0) + 0.1 * step * step
    return x - step


RULES = {
    "SGD": (sgd, {"lr": 0.1}),
    "MomentumSGD": (momentum, {"lr": 0.1, "momentum": 0.8}),
    "Adam": (adam, {"alpha": 0.05, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3}),
    "AdaDelta": (adadelta, {"rho": 0.9, "eps": 1e-4}),
}


def test_every_optimizer_is_in_the_table():
    rules = [
        name
        for name in optimizers.__all__
        if isinstance(getattr(optimizers, name), type)
        and issubclass(getattr(optimizers, name), optimizers.Optimizer)
        and name != "Optimizer"
    ]
    assert sorted(rules) == sorted(RULES)


def trajectory(name, options, start, as_array):
    link = One(as_array(start))
    optimizer = getattr(optimizers, name)(**options).setup(link)
    values = []
    for g in gradients().astype(start.dtype):
        link.p.grad = as_array(g)
        optimizer.update()
        values.append(to_numpy(link.p.array).copy())
    assert optimizer.t == STEPS
    return numpy.asarray(values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(RULES))
def test_trajectory(tape_library, name, dtype):
    rule, options = RULES[name]
    values = trajectory(name, options, START.astype(dtype), tape_library.asarray)
    assert values.dtype == dtype
    x, state, expected = START, {}, []
    for t, g in enumerate(gradients(), start=1):
        x = rule(x, state, g, t)
        expected.append(x)
    rtol = 2e-5 if dtype == "float32" else 1e-12
    numpy.testing.assert_allclose(values, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", list(RULES))
def test_torch_agrees(torch, name):
    """torch.optim, an implementation of the same papers."""
    x = torch.tensor(START, requires_grad=True)
    # torch corrects the bias before it adds eps: with none both are one.
    options = RULES[name][1] | ({"eps": 1e-14} if name == "Adam" else {})
    theirs = {
        "SGD": lambda: torch.optim.SGD([x], lr=0.1),
        "MomentumSGD": lambda: torch.optim.SGD([x], lr=0.1, momentum=0.8),
        "Adam": lambda: torch.optim.Adam([x], lr=0.05, betas=(0.9, 0.99), eps=1e-14),
        "AdaDelta": lambda: torch.optim.Adadelta([x], lr=1.0, rho=0.9, eps=1e-4),
    }[name]()
    expected = []
    for g in gradients():
        x.grad = torch.tensor(g)
        theirs.step()
        expected.append(x.detach().numpy().copy())
    values = trajectory(name, options, START, numpy.array)
    numpy.testing.assert_allclose(values, expected, rtol=1e-10)


def test_adam_without_gradient_from_the_start_stays():
    """Its moments are 0, and eps keeps 0 / 0 away."""
    link = One(START.copy())
    optimizer = optimizers.Adam().setup(link)
    link.p.grad = numpy.zeros(4)
    optimizer.update()
    numpy.testing.assert_array_equal(link.p.array, START)


def test_rate_of_adam_is_bias_corrected():
    """Kingma, Ba 2015, end of section 2: alpha (1 - beta2^t)^1/2 / (1 - beta1^t)."""
    optimizer = optimizers.Adam(alpha=0.1, beta1=0.9, beta2=0.999).setup(
        One(START.copy())
    )
    expected = []
    for t in range(1, 4):
        optimizer.target.p.grad = numpy.ones(4)
        optimizer.update()
        expected.append(0.1 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t))
        assert optimizer.lr == pytest.approx(expected[-1], rel=1e-14)


@pytest.mark.parametrize("name", list(RULES))
def test_defaults_are_the_papers(name):
    """Kingma, Ba 2015, algorithm 1; Zeiler 2012, section 4.1; else Chainer's."""
    defaults = {
        "SGD": {"lr": 0.01},
        "MomentumSGD": {"lr": 0.01, "momentum": 0.9},
        "Adam": {"alpha": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        "AdaDelta": {"rho": 0.95, "eps": 1e-6, "lr": 1.0},
    }[name]
    optimizer = getattr(optimizers, name)()
    assert {key: getattr(optimizer, key) for key in defaults} == defaults
    assert sorted(optimizer.hyperparameters) == sorted(defaults)


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, "0.1", None])
@pytest.mark.parametrize("name", list(RULES))
def test_a_step_size_that_is_none_is_refused(name, wrong):
    argument = "alpha" if name == "Adam" else "lr"
    expected = (
        f"^{name}: `{argument}` must be a finite number, positive or 0, got "
        f"{wrong!r}; leave it out for the default$"
    )
    with pytest.raises(ValueError, match=expected):
        getattr(optimizers, name)(**{argument: wrong})
    getattr(optimizers, name)(**{argument: 0})
