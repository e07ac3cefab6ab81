"""The five size measures on networks counted by hand."""

from __future__ import annotations

import math

import numpy
import pytest

from vdcore.arrays import to_numpy
from vdcore.variational import (
    LayerSize,
    NetworkSize,
    exponent_bits,
    layer_size,
    significand_bits,
)


@pytest.fixture
def small():
    """Two layers, 4 x 3 and 2 x 4, of which 4 and 3 weights are kept."""
    first = LayerSize("/l1", 12, 4, 4, 3, 2, 4, 3, 10)
    second = LayerSize("/l2", 8, 3, 0, 4, 3, 2, 2, 8)
    return NetworkSize((first, second), threshold=3.0, others=5)


def test_significand_bits(library):
    """Values of the released code of Louizos, Ullrich, Welling 2017."""
    variance = numpy.asarray([1, 0.2, 0.04, 0.01, 0.001, 1.234e-4, 1e-8])
    for dtype in ("float64", "float32"):
        bits = library.call(significand_bits, library.asarray(variance.astype(dtype)))
        assert bits.dtype == getattr(library.xp, dtype)
        assert to_numpy(bits).tolist() == [0, 1, 3, 5, 8, 11, 23]


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(1, 1), (2, 2), (3.7, 3), (10, 4), (1e39, 9), (0.5, 1), (0.1, 1), (0.0, 1)],
)
def test_exponent_bits(largest, bits):
    assert exponent_bits(largest) == bits


def test_layer_of_the_paper(library):
    """4 x 6, one row and one column empty, variance .01, max 2: 1.6x and 6.4x."""
    keep = numpy.ones((4, 6), bool)
    keep[2] = keep[:, 4] = False
    theta = numpy.full((4, 6), 0.5)
    theta[0, 0], theta[2, 0] = -2.0, 99.0  # the larger one is not kept
    log_variance = numpy.full((4, 6), math.log(0.01))
    arrays = [library.asarray(x) for x in (keep, theta, log_variance)]
    layer = layer_size("/l", *arrays, others=4)
    # 1 sign bit, 2 exponent bits for 2.0, 5 significand bits for variance .01
    assert layer == LayerSize("/l", 24, 15, 4, 6, 5, 4, 3, 8)
    network = NetworkSize((layer,), 3.0)
    assert network.weight_ratio == pytest.approx(1.6, rel=1e-12)
    assert network.bits_ratio == pytest.approx(6.4, rel=1e-12)


def test_inputs_of_a_convolution_are_channels(library):
    keep = numpy.zeros((2, 3, 2, 2), bool)
    keep[0, 1, 0, 1] = keep[0, 1, 1, 0] = keep[0, 2, 0, 0] = True
    arrays = library.asarray(keep), library.asarray(numpy.ones(keep.shape))
    layer = layer_size("/conv", *arrays)
    assert layer == LayerSize("/conv", 24, 3, 0, 3, 2, 2, 1, 32)
    assert layer.sparse_bytes == 6 * 3 + 4 * 3


def test_groups_of_a_convolution_have_channels_of_their_own(library):
    keep = numpy.zeros((4, 3, 1, 2), bool)
    keep[0, 1] = keep[2, 1] = keep[3, 1] = keep[3, 2] = True
    arrays = library.asarray(keep), library.asarray(numpy.ones(keep.shape))
    layer = layer_size("/conv", *arrays, groups=2)
    assert layer == LayerSize("/conv", 24, 8, 0, 6, 3, 4, 3, 32)
    with pytest.raises(ValueError, match=r"`groups` must be .* the 4 outputs, got 3"):
        layer_size("/conv", *arrays, groups=3)


def test_nothing_kept(library):
    keep = library.asarray(numpy.zeros((2, 3), bool))
    theta = library.asarray(numpy.ones((2, 3)))
    layer = layer_size("/l", keep, theta, theta)
    network = NetworkSize((layer,), 3.0)
    assert layer.sparsity == 1
    assert network.weight_ratio == math.inf
    assert network.bits_ratio == math.inf


def test_bytes_of_one_layer():
    """Values 4, indices 2 (row of at most 65536) or 4, row starts 4, biases 4."""
    layer = LayerSize("/l", 300 * 784, 1000, 300, 784, 500, 300, 200, 32)
    assert layer.dense_bytes == 4 * (300 * 784 + 300)
    assert layer.sparse_bytes == 6 * 1000 + 4 * 301 + 4 * 300
    wide = LayerSize("/l", 65537, 10, 0, 65537, 10, 1, 1, 32)
    assert wide.sparse_bytes == 8 * 10 + 4 * 2
    assert LayerSize("/l", 65536, 10, 0, 65536, 10, 1, 1, 32).sparse_bytes == 68


def test_five_measures(small):
    assert (small.weights, small.weights_kept) == (20, 7)
    assert small.weight_ratio == pytest.approx(20 / 7)
    assert small.parameter_ratio == pytest.approx((20 + 4 + 5) / (7 + 4 + 5))
    assert (small.units, small.units_kept) == (7, 5)
    assert small.dense_bytes == 4 * (12 + 4) + 4 * 8 + 4 * 5
    # l1 as sparse rows: 24 + 20 + 16 = 60 of 64; l2: 18 + 12 = 30 of 32
    assert small.sparse_bytes == 60 + 30 + 20
    assert small.bits_ratio == pytest.approx(32 * 20 / (4 * 10 + 3 * 8))


def test_layers_that_are_smaller_dense_count_as_dense():
    full = LayerSize("/l", 6, 6, 2, 3, 3, 2, 2, 32)
    assert full.sparse_bytes == 36 + 12 + 8
    assert NetworkSize((full,), 3.0).sparse_bytes == full.dense_bytes == 32


def test_table(small):
    lines = str(small).splitlines()
    assert (
        lines[0].split() == "layer weights kept sparsity % inputs outputs bits".split()
    )
    assert lines[1].split() == "/l1 4 / 12 66.67 2 / 3 3 / 4 10".split()
    assert lines[3] == "size at log alpha threshold 3:"
    figures = [line.split("  ")[-1].strip() for line in lines[4:]]
    assert lines[4].split() == "weights 2.9x 7 of 20".split()
    assert lines[7].split()[-4:] == "1.1x 110 of 116".split()
    assert len(figures) == 5


def test_shapes_are_checked():
    keep = numpy.ones((2, 3), bool)
    with pytest.raises(
        ValueError, match=r"layer_size: `theta` must .* \(2, 3\), got \(3"
    ):
        layer_size("/l", keep, numpy.ones((3, 2)))
    with pytest.raises(
        ValueError, match="layer_size: `log_sigma2` must have the shape"
    ):
        layer_size("/l", keep, numpy.ones((2, 3)), numpy.ones(2))
    with pytest.raises(ValueError, match=r"two axes or more, got shape \(2,\)"):
        layer_size("/l", keep[:, 0], numpy.ones(2))
