"""Weight decay and gradient clipping."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore import Sequential, optimizers
from vdcore import links as L
from vdcore.arrays import library_name, to_numpy
from vdcore.reporter import Reporter


@pytest.fixture
def model(tape_library):
    model = Sequential(
        L.VariationalDropoutLinear(2, 3, initialW=2, initial_bias=1),
        L.Linear(3, 1, initialW=-1, nobias=True),
    )
    for parameter in model.params():
        parameter.array = tape_library.asarray(parameter.array)
        parameter.grad = parameter.array * 0 + 0.5
    return model


def gradients(model):
    return {path: to_numpy(p.grad) for path, p in model.namedparams()}


def test_weight_decay_skips_log_variances(model):
    optimizer = optimizers.SGD(lr=0.1).setup(model)
    optimizer.add_hook(optimizers.WeightDecay(0.25))
    optimizer.update()
    expected = {"/0/W": 1.0, "/0/b": 0.75, "/0/log_sigma2": 0.5, "/1/W": 0.25}
    seen = gradients(model)
    assert sorted(seen) == sorted(expected)
    for path, value in expected.items():
        assert seen[path].dtype == numpy.float32
        assert (seen[path] == value).all()
    first = dict(model.namedparams())["/0/W"]
    numpy.testing.assert_allclose(to_numpy(first.array), 2 - 0.1 * 1.0, rtol=1e-6)


@pytest.mark.parametrize(("threshold", "factor"), [(1.0, 1 / 2.1213203), (100.0, 1.0)])
def test_gradient_clipping_bounds_the_joint_norm(model, threshold, factor):
    """6 + 3 + 6 + 3 gradients of 0.5 have the norm sqrt(18) / 2 = 2.1213."""
    optimizer = optimizers.SGD().setup(model)
    optimizers.GradientClipping(threshold)(optimizer)
    values = numpy.concatenate([g.ravel() for g in gradients(model).values()])
    assert values.dtype == numpy.float32
    numpy.testing.assert_allclose(values, 0.5 * factor, rtol=1e-6)
    norm = math.sqrt((values.astype(float) ** 2).sum())
    assert norm == pytest.approx(min(threshold, math.sqrt(18) / 2), rel=1e-6)


@pytest.mark.parametrize(("threshold", "clipped"), [(1.0, 1), (100.0, 0)])
def test_clipping_reports_the_norm_before_it(model, threshold, clipped):
    optimizer = optimizers.SGD().setup(model)
    library = library_name(type(next(model.params()).array))
    reporter, observation = Reporter(), {}
    reporter.add_observer("main", model)
    with reporter.scope(observation):
        optimizers.GradientClipping(threshold)(optimizer)
    assert {library_name(type(x)) for x in observation.values()} == {library}
    assert {key: float(x) for key, x in observation.items()} == {
        "main/grad_norm": pytest.approx(math.sqrt(18) / 2, rel=1e-6),
        "main/clipped": clipped,
    }


def test_clipping_leaves_out_what_is_not_trained(model):
    parameters = dict(model.namedparams())
    for path, parameter in parameters.items():
        parameter.trainable = path == "/1/W"
    optimizers.GradientClipping(0.5)(optimizers.SGD().setup(model))
    clipped = {path: to_numpy(p.grad).max() for path, p in parameters.items()}
    assert clipped.pop("/1/W") == pytest.approx(0.5 / math.sqrt(3))
    assert set(clipped.values()) == {0.5}


def test_clipping_leaves_out_what_has_no_gradient(model):
    parameters = dict(model.namedparams())
    parameters["/0/W"].grad = None
    optimizers.GradientClipping(1.0)(optimizers.SGD().setup(model))
    assert parameters["/0/W"].grad is None
    assert to_numpy(parameters["/1/W"].grad).max() == pytest.approx(1 / math.sqrt(12))
    for parameter in parameters.values():
        parameter.grad = None
    optimizers.GradientClipping(1.0)(optimizers.SGD().setup(model))  # nothing to do


@pytest.mark.parametrize("threshold", [0, -1.0, math.nan])
def test_clipping_at_nothing_is_refused(threshold):
    with pytest.raises(
        ValueError, match="GradientClipping: `threshold` must be positive"
    ):
        optimizers.GradientClipping(threshold)


def test_hooks_run_in_order_between_gradients_and_update(model):
    seen = []
    optimizer = optimizers.SGD(lr=1.0).setup(model)
    optimizer.add_hook(lambda opt: seen.append(("first", opt)), name="first")
    optimizer.add_hook(lambda opt: seen.append(("second", opt)), name="second")
    optimizer.update()
    assert seen == [("first", optimizer), ("second", optimizer)]


def test_two_hooks_of_one_name(model):
    optimizer = optimizers.SGD().setup(model)
    optimizer.add_hook(optimizers.WeightDecay(0.1))
    with pytest.raises(
        ValueError, match="there is a hook 'WeightDecay' already; give an"
    ):
        optimizer.add_hook(optimizers.WeightDecay(0.2))
    optimizer.add_hook(optimizers.WeightDecay(0.2), name="more")
