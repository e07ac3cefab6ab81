"""Convolutions by cuDNN against those by products of matrices, and which of them is.

Where CuPy is emulated, cuDNN is, too.
"""

from __future__ import annotations

import math
import sys
import threading

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_close, assert_same
from tests.backends.cuda._convolutions import CASES, ODD
from tests.conftest import HAS_GPU, _imported
from tests.emulated_cudnn import Emulation
from vdcore import kernels
from vdcore.arrays import to_numpy
from vdcore.configuration import config, using_config

pytestmark = pytest.mark.gpu


@pytest.fixture
def cudnn(cupy_library, monkeypatch):
    """The module cudnn, and nothing that was planned before."""
    if HAS_GPU:
        module = _imported("cudnn")
    else:
        module = Emulation()
        monkeypatch.setitem(sys.modules, "cudnn", module)
    forget()
    yield module
    forget()


def forget():
    from vdcore.backends.cuda import cudnn_library, cudnn_plans

    for cached in (cudnn_library._imported, cudnn_library.handle, cudnn_plans._plan):
        cached.cache_clear()


@pytest.fixture
def emulated_cudnn(emulation, cudnn):
    """One that can be asked what was done by it, and told what to refuse."""
    return cudnn


def arrays(case, powers, rng, library):
    """Images, weights and slopes."""
    positions = case.window.positions(case.images[1:3])
    channels = case.images[3] // case.groups
    shapes = (
        case.images,
        (powers, case.outputs, *case.window.size, channels),
        (powers, case.images[0], *positions, case.outputs),
    )
    return [
        library.asarray(rng.standard_normal(shape).astype(numpy.float32))
        for shape in shapes
    ]


def results(engine, case, x, weights, slopes):
    """Of all three functions; parts of sums added up."""
    options = case.window, case.groups
    by_weights = engine.weight_products(x, slopes, weights.shape[1:], *options)
    return (
        to_numpy(engine.products(x, weights, *options)),
        to_numpy(by_weights).sum(1),
        to_numpy(engine.input_gradient(x, slopes, weights, *options)),
    )


@pytest.mark.parametrize("powers", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_engines_agree(cudnn, cupy_library, rng, case, powers):
    from vdcore.backends.cuda import cudnn_engine, unfolding

    given = arrays(case, powers, rng, cupy_library)
    ours = results(cudnn_engine, case, *given)
    for a, b in zip(ours, results(unfolding, case, *given), strict=True):
        assert_close(a, b)


def test_gradients_by_weights_are_not_divided(cudnn, cupy_library, rng):
    from vdcore.backends.cuda import cudnn_engine

    case = CASES[0]
    x, weights, slopes = arrays(case, 2, rng, cupy_library)
    shape = weights.shape[1:]
    result = cudnn_engine.weight_products(x, slopes, shape, case.window, case.groups)
    assert result.shape == (2, 1, *shape)


@pytest.mark.parametrize("layout", LAYOUTS[:2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(cudnn, cupy_library, rng, case, layout):
    batch, height, width, channels = case.images
    positions = case.window.positions((height, width))
    x = rng.standard_normal((batch, channels, height, width))
    noise, gy = rng.standard_normal((2, batch, case.outputs, *positions))
    shape = (case.outputs, channels // case.groups, *case.window.size)
    W, log_sigma2 = rng.standard_normal(shape), rng.uniform(-8, 1, shape)
    b = rng.standard_normal(case.outputs)
    options = case.window, case.groups
    floats = (a.astype(numpy.float32) for a in (x, W, log_sigma2, b, noise, gy))
    x, W, log_sigma2, b, noise, gy = floats
    with using_config("use_cudnn", "always"):
        for kernel, arguments in (
            (kernels.convolution_forward, (x, W, b, *options)),
            (kernels.convolution_backward, (gy, x, W, *options, True)),
            (
                kernels.vd_convolution_forward,
                (x, W, log_sigma2, b, noise, 1.0, *options),
            ),
            (
                kernels.vd_convolution_backward,
                (gy, x, W, log_sigma2, noise, 1.0, *options, True),
            ),
        ):
            assert_same(kernel, cupy_library, *arguments, layout=layout, tolerance=5e-6)


def test_a_plan_is_made_once_for_each_precision(emulated_cudnn, cupy_library, rng):
    from vdcore.backends.cuda import engine

    given = arrays(CASES[0], 2, rng, cupy_library)
    exact = results(engine, CASES[0], *given)
    built = ["conv_wgrad", "conv_fprop", "conv_dgrad"]
    assert emulated_cudnn.built == built
    assert emulated_cudnn.executed == 6
    again = results(engine, CASES[0], *given)
    assert emulated_cudnn.built == built
    with using_config("tf32", True):
        rounded = results(engine, CASES[0], *given)
    assert emulated_cudnn.built == 2 * built
    for a, b, c in zip(exact, again, rounded, strict=True):
        numpy.testing.assert_array_equal(a, b)
        assert_close(c, b, 5e-3)
        assert abs(c - b).max() > 1e-5


def test_each_thread_has_plans_of_its_own(emulated_cudnn, cupy_library, rng):
    """For a handle of cuDNN may serve one at a time."""
    from vdcore.backends.cuda import engine

    given = arrays(CASES[0], 1, rng, cupy_library)
    seen = []
    for _ in range(2):
        thread = threading.Thread(
            target=lambda: seen.append(results(engine, CASES[0], *given))
        )
        thread.start()
        thread.join()
    for a, b in zip(results(engine, CASES[0], *given), seen[0], strict=True):
        numpy.testing.assert_array_equal(a, b)
    assert len(emulated_cudnn.built) >= 6


def test_what_cudnn_cannot_do(emulated_cudnn, cupy_library, rng, capfd):
    """It is asked once, and products of matrices do it."""
    from vdcore.backends.cuda import engine, unfolding

    asked = []

    def refuses(name):
        asked.append(name)
        return name != "conv_fprop"

    emulated_cudnn.refuses = refuses
    given = arrays(CASES[0], 2, rng, cupy_library)
    for _ in range(2):
        ours = results(engine, CASES[0], *given)
        others = results(unfolding, CASES[0], *given)
        for a, b in zip(ours, others, strict=True):
            assert_close(a, b)
    assert sorted(asked) == ["conv_dgrad", "conv_fprop", "conv_wgrad"]
    assert emulated_cudnn.built == ["conv_fprop"]
    assert "".join(capfd.readouterr()) == ""
    config_always_must_fail(CASES[0], given, "conv_wgrad of Geometry.*No execution")


def config_always_must_fail(case, given, match, error=RuntimeError):
    from vdcore.backends.cuda import engine

    with using_config("use_cudnn", "always"), pytest.raises(error, match=match):
        results(engine, case, *given)


def test_arrays_that_cudnn_does_not_take_as_they_lie(cudnn, cupy_library, rng):
    """A second power, or images that are part of another array, not on 16 bytes."""
    from vdcore.backends.cuda import engine, unfolding

    odd = arrays(ODD, 2, rng, cupy_library)
    x, *others = arrays(CASES[0], 1, rng, cupy_library)
    memory = cupy_library.asarray(numpy.zeros(x.size + 1, numpy.float32))
    shifted = memory[1:].reshape(x.shape)
    shifted[...] = x
    for case, given in ((ODD, odd), (CASES[0], [shifted, *others])):
        ours = results(engine, case, *given)
        for a, b in zip(ours, results(unfolding, case, *given), strict=True):
            assert_close(a, b)
        config_always_must_fail(case, given, "'always', but an array .* 16 bytes")


@pytest.mark.parametrize(
    ("version", "library", "error", "match"),
    [
        (None, True, RuntimeError, "'always', but the Python module cudnn cannot be"),
        ("1.32.0", False, RuntimeError, "'always', but the library .* Unable to find"),
        (
            "1.9.1",
            True,
            ImportError,
            r"need nvidia-cudnn-frontend 1\.14 .* got 1\.9\.1",
        ),
    ],
)
def test_installations(
    emulated_cudnn, cupy_library, rng, monkeypatch, version, library, error, match
):
    from vdcore.backends.cuda import engine

    def no_library():
        message = "Unable to find symbol cudnnGetVersion"
        raise RuntimeError(message)

    if version is None:
        monkeypatch.setitem(sys.modules, "cudnn", None)
    else:
        emulated_cudnn.__version__ = version
    if not library:
        emulated_cudnn.backend_version = no_library
    given = arrays(CASES[0], 1, rng, cupy_library)
    config_always_must_fail(CASES[0], given, match, error)
    if error is ImportError:
        with pytest.raises(ImportError, match="use_cudnn = 'never'"):
            results(engine, CASES[0], *given)
    else:
        results(engine, CASES[0], *given)
    with using_config("use_cudnn", "never"):
        results(engine, CASES[0], *given)
    assert emulated_cudnn.built == []


def test_the_choice_is_one_of_three(cudnn, cupy_library, rng):
    from vdcore.backends.cuda import engine

    assert config.use_cudnn == "auto"
    given = arrays(CASES[0], 1, rng, cupy_library)
    match = "config.use_cudnn must be one of .*'never'.*, got True"
    with using_config("use_cudnn", True), pytest.raises(ValueError, match=match):
        results(engine, CASES[0], *given)


@pytest.mark.parametrize("powers", [1, 2])
def test_a_recorded_step_repeats_convolutions(cudnn, cupy, cupy_library, rng, powers):
    """With arrays and a workspace that nothing else gets between repetitions."""
    from vdcore.backends.cuda import engine
    from vdcore.backends.cuda.graph import StepGraph

    case = CASES[3]
    x, weights, slopes = arrays(case, powers, rng, cupy_library)
    options = case.window, case.groups
    made = {}

    def step():
        shape = weights.shape[1:]
        made["products"] = engine.products(x, weights, *options)
        by_weights = engine.weight_products(x, slopes, shape, *options)
        made["by weights"] = by_weights.sum(1)
        made["by images"] = engine.input_gradient(x, slopes, weights, *options)

    with using_config("use_cudnn", "always"):
        step()  # makes the plans
        graph = StepGraph(step)
        for _ in range(2):
            x[...] = cupy_library.asarray(
                rng.standard_normal(x.shape).astype(numpy.float32)
            )
            garbage = cupy.full(math.prod(x.shape), numpy.nan, numpy.float32)
            graph.repeat()
            ours = [to_numpy(a) for a in made.values()]
            for a, b in zip(
                ours, results(engine, case, x, weights, slopes), strict=True
            ):
                assert_close(a, b)
            del garbage


def test_nothing_waits_for_the_device(emulation, cudnn, cupy_library, rng):
    from vdcore.backends.cuda import engine

    case = CASES[3]
    x, weights, slopes = arrays(case, 2, rng, cupy_library)
    with emulation.transfers() as counts:
        engine.products(x, weights, case.window, case.groups)
        engine.weight_products(x, slopes, weights.shape[1:], case.window, case.groups)
        engine.input_gradient(x, slopes, weights, case.window, case.groups)
    assert (counts.synchronizations, counts.to_host, counts.to_device) == (0, 0, 0)
    # Two squares, one addition, and six convolutions.
    assert counts.launches == 9
