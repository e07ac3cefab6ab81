"""Batch normalisation with running statistics, against torch's module."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import Chain, optimizers, serializers
from vdcore import links as L
from vdcore.arrays import array_namespace, to_numpy


class Net(Chain):
    def __init__(self, size=None):
        super().__init__()
        with self.init_scope():
            self.bn = L.BatchNormalization(size)

    def forward(self, x):
        return self.bn(x)


def batches(rng, shape, count=3):
    return [
        (rng.standard_normal(shape) * (k + 1) + 5).astype(numpy.float32)
        for k in range(count)
    ]


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 5), (17, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("decay", [0.9, 0.5])
def test_running_statistics_are_torchs(tape_library, torch, rng, shape, decay):
    """The momentum of torch is the share of the new batch, not of the old ones."""
    module = {2: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    theirs = module(4, eps=1e-3, momentum=1 - decay)
    ours = L.BatchNormalization(decay=decay, eps=1e-3)
    for x in batches(rng, shape):
        y = ours(tape_library.asarray(x))
        expected = theirs(torch.tensor(x)).detach().numpy()
        numpy.testing.assert_allclose(to_numpy(y), expected, atol=3e-6)
    for array, tensor in (
        (ours.avg_mean, theirs.running_mean),
        (ours.avg_var, theirs.running_var),
    ):
        assert array_namespace(array) is tape_library.xp
        assert to_numpy(array).dtype == numpy.float32
        numpy.testing.assert_allclose(to_numpy(array), tensor.numpy(), rtol=1e-5)
    theirs.eval()
    mean = to_numpy(ours.avg_mean)
    with vdcore.using_config("train", False):
        y = ours(tape_library.asarray(x))
        ours(tape_library.asarray(x[:1]))  # one example will do
    expected = theirs(torch.tensor(x)).detach().numpy()
    numpy.testing.assert_allclose(to_numpy(y), expected, atol=5e-6)
    numpy.testing.assert_array_equal(to_numpy(ours.avg_mean), mean)


def test_fine_tuning_averages_all_batches(rng):
    """Chainer: the statistics after start_finetuning are plain means."""
    link = L.BatchNormalization(4)
    link(batches(rng, (6, 4, 3, 5))[0])
    link.start_finetuning()
    seen = batches(rng, (6, 4, 3, 5))
    for x in seen:
        link(x, finetune=True)
    assert link.N == 3
    means = numpy.mean([x.mean(axis=(0, 2, 3)) for x in seen], axis=0)
    variances = numpy.mean([x.var(axis=(0, 2, 3), ddof=1) for x in seen], axis=0)
    numpy.testing.assert_allclose(link.avg_mean, means, rtol=1e-5)
    numpy.testing.assert_allclose(link.avg_var, variances, rtol=1e-5)


def test_first_values():
    link = L.BatchNormalization(3)
    for name, value in (("avg_mean", 0), ("avg_var", 1)):
        assert getattr(link, name).tolist() == [value] * 3
        assert getattr(link, name).dtype == numpy.float32
    assert (link.decay, link.eps, link.N) == (0.9, 2e-5, 0)
    assert link.gamma.array.tolist() == [1] * 3
    assert link.beta.array.tolist() == [0] * 3
    assert [path for path, _ in link.namedparams()] == ["/gamma", "/beta"]
    link = L.BatchNormalization(2, initial_gamma=3, initial_beta=numpy.ones(2, "f"))
    assert link.gamma.array.tolist() == [3, 3]
    assert link.beta.array.tolist() == [1, 1]


@pytest.mark.parametrize("train", [True, False])
def test_without_gamma_and_beta(tape_library, rng, train):
    link = L.BatchNormalization(use_gamma=False, use_beta=False)
    full = L.BatchNormalization()
    assert link.gamma is None
    assert link.beta is None
    assert list(link.params()) == []
    x = tape_library.asarray(batches(rng, (6, 4))[0])
    with vdcore.using_config("train", train):
        y, expected = link(x), full(x)
    numpy.testing.assert_array_equal(to_numpy(y), to_numpy(expected))


def test_double_precision(tape_library, rng):
    link = L.BatchNormalization(None, dtype=numpy.float64)
    x = tape_library.asarray(rng.standard_normal((5, 3)))
    assert link(x).dtype == x.dtype == link.avg_mean.dtype
    with pytest.raises(TypeError, match="`gamma` must have the dtype of `x`"):
        L.BatchNormalization()(x)


def test_training(tape_library, rng):
    """Gradients reach gamma and beta; statistics are numbers, not traced."""
    net = Net()
    x = tape_library.asarray(batches(rng, (6, 4))[0])
    net(x)
    optimizer = optimizers.SGD(lr=0.5).setup(net)
    xp = array_namespace(x)
    target = xp.full_like(x, 2)
    for _ in range(60):
        optimizer.update(
            lambda: array_namespace(net.bn.beta.array).mean(
                array_namespace(net.bn.beta.array).square(net(x) - target)
            )
        )
    numpy.testing.assert_allclose(to_numpy(net.bn.beta.array), [2] * 4, atol=1e-3)
    numpy.testing.assert_allclose(to_numpy(net.bn.gamma.array), [0] * 4, atol=1e-3)
    assert type(net.bn.avg_mean) is type(x)


@pytest.mark.parametrize("size", [4, None])
def test_round_trip(tmp_path, rng, size):
    net = Net(4)
    for x in batches(rng, (6, 4)):
        net.bn(x, finetune=True)
    serializers.save_npz(tmp_path / "net.npz", net)
    with numpy.load(tmp_path / "net.npz") as file:
        assert sorted(file) == [
            "bn/N", "bn/avg_mean", "bn/avg_var", "bn/beta", "bn/gamma",
        ]  # fmt: skip
    other = Net(size)
    serializers.load_npz(tmp_path / "net.npz", other)
    assert other.bn.N == 3
    for name in ("avg_mean", "avg_var"):
        ours, theirs = getattr(net.bn, name), getattr(other.bn, name)
        assert ours.dtype == theirs.dtype
        numpy.testing.assert_array_equal(ours, theirs)
    with vdcore.using_config("train", False):
        numpy.testing.assert_array_equal(net(x), other(x))


def test_not_saved_before_the_first_batch(tmp_path):
    net = Net()
    with pytest.raises(RuntimeError, match="parameter 'gamma' of link 'bn' is not"):
        serializers.save_npz(tmp_path / "net.npz", net)
    net.bn = L.BatchNormalization(use_gamma=False, use_beta=False)
    net.replace_child("bn", net.bn)
    with pytest.raises(RuntimeError, match="persistent 'avg_mean' of link 'bn' is not"):
        serializers.save_npz(tmp_path / "net.npz", net)


def test_copy_and_device(tape_library, rng):
    net = Net()
    x = batches(rng, (6, 4))[0]
    net(tape_library.asarray(x))
    other = net.copy()
    other(tape_library.asarray(x + 1))
    assert (to_numpy(other.bn.avg_mean) != to_numpy(net.bn.avg_mean)).all()
    net.to_cpu()
    assert type(net.bn.avg_mean) is type(net.bn.avg_var) is numpy.ndarray
    assert net.bn.N == 0
    net(x)


def test_errors():
    for size in (0, -1, 2.5, "3"):
        with pytest.raises(ValueError, match="BatchNormalization: `size` must be"):
            L.BatchNormalization(size)
    with pytest.raises(ValueError, match="BatchNormalization: `decay` must lie in"):
        L.BatchNormalization(3, decay=1.5)
    with pytest.raises(TypeError, match="BatchNormalization: `x` must be an array"):
        L.BatchNormalization(3)([[1.0]])
    x = numpy.ones((4, 2), numpy.float32)
    with pytest.raises(ValueError, match=r"`gamma` must have shape \(2,\)"):
        L.BatchNormalization(3)(x)
    fresh = L.BatchNormalization()
    for wrong in (x[:1], x[:0], x[0]):
        with pytest.raises(ValueError, match="batch_normalization: `x` must have"):
            fresh(wrong)
