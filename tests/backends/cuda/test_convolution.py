"""Convolutions, plain and noisy, against their generic definitions."""

from __future__ import annotations

import numpy
import pytest

from tests.backends.cuda._compare import LAYOUTS, assert_close, assert_same
from vdcore import kernels
from vdcore.windows import Window

pytestmark = pytest.mark.gpu

# Batch, channels, height, width; outputs, groups; window.
CASES = {
    "one pixel": ((1, 1, 1, 1), 1, 1, Window((1, 1))),
    "5x5": ((3, 1, 12, 11), 5, 1, Window((5, 5))),
    "3x3 padded": ((2, 4, 7, 5), 6, 1, Window((3, 3), pad=(1, 1))),
    "3x3 of many channels": ((2, 33, 4, 4), 31, 1, Window((3, 3), pad=(1, 1))),
    "steps": ((2, 3, 9, 8), 4, 1, Window((3, 2), (2, 3), (1, 0))),
    "steps that leave out": ((2, 4, 7, 8), 3, 1, Window((2, 2), (3, 3))),
    "dilated": ((2, 8, 9, 9), 4, 1, Window((3, 2), (1, 2), (2, 1), (2, 3))),
    "wide padding": ((1, 2, 3, 3), 2, 1, Window((2, 3), (2, 2), (4, 3))),
    "1x1": ((3, 8, 4, 5), 7, 1, Window((1, 1))),
    "1x1 with steps": ((2, 4, 5, 5), 3, 1, Window((1, 1), (2, 2))),
    "all of the image": ((5, 4, 3, 3), 8, 1, Window((3, 3))),
    "groups": ((2, 6, 5, 4), 4, 2, Window((3, 3), pad=(1, 1))),
    "groups of four": ((2, 16, 5, 4), 8, 4, Window((2, 3), (2, 1))),
    "depthwise": ((2, 5, 6, 6), 10, 5, Window((3, 3), pad=(1, 1))),
    "groups of 1x1": ((3, 8, 4, 3), 6, 2, Window((1, 1))),
}
SMALL = ("3x3 padded", "1x1", "groups of four")


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


def arrays(rng, shape, outputs, groups, window):
    """x, theta, log_sigma2, b, noise, gy."""
    batch, channels, *size = shape
    weights = (outputs, channels // groups, *window.size)
    result = (batch, outputs, *window.positions(tuple(size)))
    drawn = (
        rng.standard_normal(shape),
        rng.standard_normal(weights) * 0.3,
        rng.uniform(-6, 3, weights),
        rng.standard_normal(outputs),
        *rng.standard_normal((2, *result)),
    )
    return [a.astype(numpy.float32) for a in drawn]


def check(library, rng, case, threshold=None, need_x=True, **options):
    """All four kernels, in one case."""
    *_, groups, window = case
    x, theta, log_sigma2, b, noise, gy = arrays(rng, *case)
    moved = (window, groups)
    calls = (
        (kernels.convolution_forward, x, theta, b, *moved),
        (kernels.convolution_forward, x, theta, None, *moved),
        (kernels.convolution_backward, gy, x, theta, *moved, need_x),
        (
            kernels.vd_convolution_forward,
            *(x, theta, log_sigma2, b, noise, threshold, *moved),
        ),
        (
            kernels.vd_convolution_backward,
            *(gy, x, theta, log_sigma2, noise, threshold, *moved, need_x),
        ),
    )
    for kernel, *arguments in calls:
        assert_same(kernel, library, *arguments, tolerance=4e-6, **options)


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_cases(cupy_library, rng, case, threshold):
    check(cupy_library, rng, case, threshold)


def test_no_gradient_by_the_images(cupy_library, rng, case):
    check(cupy_library, rng, case, need_x=False)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SMALL)
def test_layouts(cupy_library, rng, name, layout):
    check(cupy_library, rng, CASES[name], 1.0, layout=layout)


@pytest.fixture
def engine(cupy_library, monkeypatch):
    """The one that these tests are of, whether cuDNN is installed or not."""
    from vdcore.backends.cuda import convolution, unfolding

    monkeypatch.setattr(convolution, "engine", unfolding)
    return unfolding


@pytest.mark.parametrize("limit", [1, 20_000])
def test_columns_of_some_examples_at_a_time(
    cupy_library, engine, rng, case, monkeypatch, limit
):
    shape, *others = case
    case = ((7, *shape[1:]), *others)
    monkeypatch.setattr(engine, "COLUMNS_LIMIT", limit)
    check(cupy_library, rng, case, 1.0)


@pytest.mark.parametrize("limit", [1, 40_000, 2**30])
def test_products_divided_by_depth(cupy_library, engine, rng, case, monkeypatch, limit):
    shape, *others = case
    case = ((12, *shape[1:]), *others)
    monkeypatch.setattr(engine, "COLUMNS_LIMIT", limit)
    monkeypatch.setattr(engine, "LEAST_DEPTH", 1)
    check(cupy_library, rng, case, 1.0)


def test_how_examples_are_divided(engine, monkeypatch):
    def problem(batch, channels=64, size=32, powers=2):
        window = Window((3, 3), pad=(1, 1))
        return engine.Problem((batch, size, size, channels), window, 1, powers)

    assert problem(128).parts() == [slice(0, 128)]
    assert problem(256).parts() == [slice(0, 128), slice(128, 256)]
    assert [part.stop for part in problem(10, size=512).parts()] == [1, *range(2, 11)]
    monkeypatch.setattr(engine, "COLUMNS_LIMIT", 2**28)
    assert [part.stop for part in problem(128).parts()] == [32, 64, 96, 128]
    assert [part.stop for part in problem(127).parts()] == [43, 86, 127]


def test_how_products_are_divided(engine, monkeypatch):
    """So that a GPU is kept busy, but not into parts of next to nothing."""

    def splits(*shape, outputs, groups=1):
        window = Window((3, 3), pad=(1, 1))
        return engine.Problem(shape, window, groups, 2).splits(outputs)

    assert splits(128, 32, 32, 64, outputs=64) == 8
    assert splits(127, 32, 32, 64, outputs=64) == 8
    assert splits(128, 32, 32, 3, outputs=64) == 128
    assert splits(128, 2, 2, 512, outputs=512) == 1
    assert splits(1, 2, 2, 512, outputs=512) == 1
    assert splits(128, 32, 32, 64, outputs=64, groups=2) == 1
    monkeypatch.setattr(engine, "COLUMNS_LIMIT", 2**28)
    assert splits(128, 32, 32, 64, outputs=64) == 8


def test_what_is_put_out_lies_with_its_channels_last(cupy_library, rng):
    *_, groups, window = case = CASES["3x3 padded"]
    on_device = [cupy_library.asarray(a) for a in arrays(rng, *case)]
    x, theta, log_sigma2, b, noise, gy = on_device
    images = [kernels.convolution_forward(x, theta, b, window, groups)]
    images += kernels.vd_convolution_forward(
        x, theta, log_sigma2, b, noise, None, window, groups
    )
    arguments = (gy, x, theta, log_sigma2, images[2], None, window, groups, True)
    gx, gtheta, glog_sigma2, _ = kernels.vd_convolution_backward(*arguments)
    for image in (*images, gx):
        assert image.transpose(0, 2, 3, 1).flags.c_contiguous
    assert gtheta.flags.c_contiguous
    assert glog_sigma2.flags.c_contiguous


def test_the_same_bits_each_time(cupy_library, rng):
    *_, groups, window = case = CASES["groups"]
    x, theta, log_sigma2, _, noise, gy = arrays(rng, *case)
    results = []
    for _ in range(2):
        on_device = map(cupy_library.asarray, (gy, x, theta, log_sigma2, noise))
        results.append(
            kernels.vd_convolution_backward(*on_device, 1.0, window, groups, True)
        )
    for a, b in zip(*results, strict=True):
        numpy.testing.assert_array_equal(a.get(), b.get())


def test_noise_without_its_channels_last_is_not_written_to(cupy_library, rng):
    *_, groups, window = case = CASES["3x3 padded"]
    on_device = [cupy_library.asarray(a) for a in arrays(rng, *case)]
    *arguments, noise, _ = on_device
    before = noise.copy()
    kernels.vd_convolution_forward(*arguments, noise, None, window, groups)
    assert_close(noise, before.get(), 0)


def test_double_precision_is_the_definition(cupy_library, rng):
    *_, groups, window = case = CASES["groups"]
    x, theta, _, b, *_ = (a.astype(float) for a in arrays(rng, *case))
    on_device = map(cupy_library.asarray, (x, theta, b))
    y = kernels.convolution_forward(*on_device, window, groups)
    expected = kernels.convolution_forward.generic(x, theta, b, window, groups)
    numpy.testing.assert_allclose(y.get(), expected, rtol=1e-12)
