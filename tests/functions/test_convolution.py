"""Convolutions against torch with the same numbers, values and all gradients."""

from __future__ import annotations

import functools

import numpy
import pytest

from vdcore import functions as F
from vdcore.arrays import array_namespace, to_numpy
from vdcore.autodiff import value_and_gradients
from vdcore.testing import check_gradients

# Shapes of x and W, and the options: odd sizes, every option alone and all together.
CASES = {
    "plain": ((3, 2, 7, 6), (4, 2, 3, 3), {}),
    "one pixel": ((2, 3, 5, 4), (2, 3, 1, 1), {}),
    "whole image": ((2, 3, 4, 5), (6, 3, 4, 5), {}),
    "pad": ((2, 3, 5, 6), (4, 3, 3, 3), {"pad": 1}),
    "pad beyond the kernel": ((2, 1, 3, 3), (2, 1, 2, 2), {"pad": 4}),
    "oblong": ((2, 3, 9, 5), (4, 3, 1, 4), {"pad": (0, 2)}),
    "stride": ((2, 3, 9, 8), (4, 3, 3, 2), {"stride": 2}),
    "stride beyond the kernel": ((2, 3, 11, 9), (4, 3, 2, 2), {"stride": (4, 3)}),
    "stride, some pixels unread": ((2, 3, 8, 10), (5, 3, 3, 3), {"stride": 3}),
    "dilate": ((2, 2, 9, 9), (3, 2, 3, 3), {"dilate": (2, 3)}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2}),
    "depthwise": ((2, 4, 5, 5), (8, 1, 3, 3), {"groups": 4, "pad": 1}),
    "all": (
        (3, 4, 12, 11),
        (6, 2, 3, 2),
        {"stride": (2, 3), "pad": (2, 1), "dilate": (2, 1), "groups": 2},
    ),
}
# Large enough for compiled kernels, with edges in every blocked dimension.
LARGE = {
    "batch 17": ((17, 5, 9, 7), (7, 5, 3, 3), {"pad": 1}),
    "batch 100": ((100, 3, 8, 8), (13, 3, 5, 5), {}),
    "batch 32, small images": ((32, 20, 2, 2), (19, 20, 3, 3), {"pad": 1}),
    "batch 33, all": (
        (33, 8, 12, 13),
        (20, 4, 3, 2),
        {"stride": (2, 3), "pad": (2, 1), "dilate": (2, 1), "groups": 2},
    ),
    "batch 16, pad beyond the kernel": ((16, 2, 4, 3), (3, 2, 2, 2), {"pad": 3}),
    "batch 16, one pixel": ((16, 32, 5, 4), (18, 32, 1, 1), {}),
}
TOLERANCES = {"float32": {"rtol": 2e-4, "atol": 2e-4}, "float64": {"rtol": 1e-10}}
VD_TOLERANCES = {"float32": {"rtol": 5e-4, "atol": 5e-4}, "float64": {"rtol": 1e-10}}


@functools.cache
def values(case, dtype="float64"):
    """x, W, log_sigma2, b, noise and a weight for each output, as NumPy arrays."""
    torch = pytest.importorskip("torch")
    shape, weights, options = (CASES | LARGE)[case]
    rng = numpy.random.default_rng(0)
    x = rng.standard_normal(shape)
    W = rng.standard_normal(weights)
    log_sigma2 = rng.normal(-2, 3, weights)
    b = rng.standard_normal(weights[0])
    y = torch.nn.functional.conv2d(
        *map(torch.from_numpy, (x, W)), **torch_names(options)
    )
    noise, gy = (rng.standard_normal(tuple(y.shape)) for _ in range(2))
    return [a.astype(dtype) for a in (x, W, log_sigma2, b, noise, gy)]


def torch_names(options):
    names = {"pad": "padding", "dilate": "dilation"}
    return {names.get(key, key): value for key, value in options.items()}


def torch_gradients(function, arrays, gy):
    """Value and gradients of ``sum(function(*arrays) * gy)``, by torch in float64."""
    torch = pytest.importorskip("torch")
    leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]
    y = function(*leaves)
    (y * torch.from_numpy(gy)).sum().backward()
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def our_gradients(library, function, arrays, gy):
    outputs = []
    gy = library.asarray(gy)

    def scalar(*traced):
        y = function(*traced)
        outputs.append(to_numpy(y))
        return array_namespace(y, gy).sum(y * gy)

    _, gradients = value_and_gradients(scalar, [library.asarray(a) for a in arrays])
    return outputs[0], [to_numpy(g) for g in gradients]


def agree(ours, theirs, tolerance):
    (y, gradients), (expected, expected_gradients) = ours, theirs
    numpy.testing.assert_allclose(y, expected, **tolerance)
    for g, e in zip(gradients, expected_gradients, strict=True):
        # Relative to the gradient's largest entry: sums of many terms cancel.
        scale = max(1.0, float(numpy.abs(e).max()))
        numpy.testing.assert_allclose(g / scale, e / scale, **tolerance)


def check_convolution(library, case, dtype):
    torch = pytest.importorskip("torch")
    options = (CASES | LARGE)[case][2]
    x, W, _, b, _, gy = values(case)
    theirs = torch_gradients(
        lambda x, W, b: torch.nn.functional.conv2d(x, W, b, **torch_names(options)),
        (x, W, b),
        gy,
    )
    x, W, _, b, _, gy = values(case, dtype)
    ours = our_gradients(
        library, lambda x, W, b: F.convolution_2d(x, W, b, **options), (x, W, b), gy
    )
    assert ours[0].dtype == dtype
    agree(ours, theirs, TOLERANCES[dtype])


def check_vd_convolution(library, case, dtype, threshold):
    torch = pytest.importorskip("torch")
    options = (CASES | LARGE)[case][2]
    x, W, log_sigma2, b, noise, gy = values(case)

    def peer(x, W, log_sigma2, b):
        conv = torch.nn.functional.conv2d
        sigma2, names = log_sigma2.exp(), torch_names(options)
        if threshold is not None:
            keep = log_sigma2 - torch.log(W * W + 1e-8) <= threshold
            W, sigma2 = W * keep, sigma2 * keep
        std = torch.sqrt(conv(x * x, sigma2, **names) + 1e-8)
        y = conv(x, W, **names) + std * torch.from_numpy(noise)
        return y + b[:, None, None]

    theirs = torch_gradients(peer, (x, W, log_sigma2, b), gy)
    x, W, log_sigma2, b, noise, gy = values(case, dtype)
    ours = our_gradients(
        library,
        lambda x, W, log_sigma2, b: F.vd_convolution_2d(
            x, W, log_sigma2, b, library.asarray(noise + 0), threshold, **options
        ),
        (x, W, log_sigma2, b),
        gy,
    )
    assert ours[0].dtype == dtype
    agree(ours, theirs, VD_TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_convolution_equals_torch(tape_library, case, dtype):
    check_convolution(tape_library, case, dtype)


@pytest.mark.parametrize("case", LARGE)
def test_large_convolution_equals_torch(numpy_library, case):
    check_convolution(numpy_library, case, "float32")


# No masks; masks that leave two weights in three; masks that leave one in fifteen,
# which compiled kernels compute from those alone.
@pytest.mark.parametrize("threshold", [None, 1.0, -6.5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_vd_convolution_equals_torch(tape_library, case, dtype, threshold):
    check_vd_convolution(tape_library, case, dtype, threshold)


@pytest.mark.parametrize("threshold", [None, 1.0, -6.5])
@pytest.mark.parametrize("case", LARGE)
def test_large_vd_convolution_equals_torch(numpy_library, case, threshold):
    check_vd_convolution(numpy_library, case, "float32", threshold)


def test_without_bias(tape_library):
    x, W, log_sigma2, _, noise, _ = map(tape_library.asarray, values("all"))
    options = CASES["all"][2]
    zero = tape_library.asarray(numpy.zeros(6))
    for plain, biased in (
        (F.convolution_2d(x, W, **options), F.convolution_2d(x, W, zero, **options)),
        (
            F.vd_convolution_2d(x, W, log_sigma2, None, noise * 1, **options),
            F.vd_convolution_2d(x, W, log_sigma2, zero, noise * 1, **options),
        ),
    ):
        numpy.testing.assert_array_equal(to_numpy(plain), to_numpy(biased))


@pytest.mark.parametrize("case", ["plain", "all"])
def test_gradients_are_those_of_differences(tape_library, case):
    options = CASES[case][2]
    x, W, log_sigma2, b, noise, _ = map(tape_library.asarray, values(case))
    check_gradients(lambda *a: F.convolution_2d(*a, **options), [x, W, b])
    check_gradients(
        lambda x, W, s, b: F.vd_convolution_2d(x, W, s, b, noise * 1, **options),
        [x, W, log_sigma2, b],
    )


def test_vd_moments():
    """Over many draws the outputs have the moments that sampled weights give."""
    rng = numpy.random.default_rng(0)
    x, W = rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((1, 2, 3, 3))
    log_sigma2 = rng.normal(-1, 1, W.shape)
    draws = 40_000
    weights = W + numpy.exp(log_sigma2 / 2) * rng.standard_normal((draws, *W.shape[1:]))
    sampled = F.convolution_2d(x, weights)[0].reshape(draws, -1)
    noise = rng.standard_normal((draws, 1, 2, 2))
    images = numpy.broadcast_to(x, (draws, *x.shape[1:]))
    ours = F.vd_convolution_2d(images, W, log_sigma2, None, noise).reshape(draws, -1)
    error = 5 * sampled.std(axis=0) / draws**0.5
    assert (numpy.abs(ours.mean(axis=0) - sampled.mean(axis=0)) < error).all()
    numpy.testing.assert_allclose(ours.std(axis=0), sampled.std(axis=0), rtol=0.03)


IMAGES = numpy.ones((2, 4, 5, 5), numpy.float32)
KERNELS = numpy.ones((6, 4, 3, 3), numpy.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((IMAGES[..., :2], KERNELS), {}, "spans 3x3 pixels .* only 5x2"),
        ((IMAGES, KERNELS), {"dilate": 3}, "spans 7x7 pixels .* only 5x5"),
        ((IMAGES, KERNELS), {"groups": 3}, "`groups` .* 4 input and the 6 output"),
        ((IMAGES, KERNELS), {"groups": 0}, "`groups` must be a positive integer"),
        ((IMAGES, KERNELS), {"groups": 2}, "must have 8 channels"),
        ((IMAGES[:, :3], KERNELS), {}, "must have 4 channels"),
        ((IMAGES[0], KERNELS), {}, "`x` must have four axes"),
        ((IMAGES, KERNELS[0]), {}, "`W` must have four axes"),
        ((IMAGES[:0], KERNELS), {}, "at least one example"),
        ((IMAGES, KERNELS), {"stride": 0}, "`stride` must be an integer of at least 1"),
        ((IMAGES, KERNELS), {"pad": -1}, "`pad` must be an integer of at least 0"),
        ((IMAGES, KERNELS), {"pad": (1, 1, 1)}, "or a pair of them"),
        ((IMAGES, KERNELS, KERNELS[0, 0, 0]), {}, r"`b` must have shape \(6,\)"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(ValueError, match=message) as error:
        F.convolution_2d(*arguments, **options)
    assert str(error.value).startswith("convolution_2d: ")


def test_bad_types():
    with pytest.raises(TypeError, match="`x` must be an array, got list"):
        F.convolution_2d([1.0], KERNELS)
    with pytest.raises(TypeError, match="`x` must have the dtype of `W`"):
        F.convolution_2d(IMAGES.astype(numpy.float64), KERNELS)


def test_bad_noise():
    noise = numpy.ones((2, 6, 3, 2), numpy.float32)
    with pytest.raises(ValueError, match=r"`noise` must have shape \(2, 6, 3, 3\)"):
        F.vd_convolution_2d(IMAGES, KERNELS, KERNELS, None, noise)
    with pytest.raises(ValueError, match="`log_sigma2` must have the shape of `W`"):
        F.vd_convolution_2d(IMAGES, KERNELS, KERNELS[:1], None, noise)


def test_nan_in_one_example_stays_there():
    x = IMAGES.copy()
    x[0, 0, 0, 0] = numpy.nan
    y = F.convolution_2d(x, KERNELS)
    assert numpy.isnan(y[0, :, 0, 0]).all()
    assert numpy.isfinite(y[1]).all()
