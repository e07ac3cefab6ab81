"""A small regression to train, complete with reports, generators and two layers."""

from __future__ import annotations

import numpy
import pytest

import vdcore
from vdcore import functions as F
from vdcore import links as L
from vdcore.datasets import TupleDataset
from vdcore.iterators import SerialIterator
from vdcore.optimizers import Adam
from vdcore.training import StandardUpdater, Trainer


class Classifier(L.VariationalDropoutChain):
    def __init__(self, num_examples):
        super().__init__(num_examples=num_examples, warm_up=0)
        with self.init_scope():
            self.l1 = L.VariationalDropoutLinear(4, 8)
            self.l2 = L.VariationalDropoutLinear(8, 3)

    def forward(self, x):
        return self.l2(F.relu(self.l1(x)))


def make_dataset(size=20):
    rng = numpy.random.default_rng(5)
    x = rng.standard_normal((size, 4), dtype=numpy.float32)
    return TupleDataset(x, numpy.argmax(x[:, :3], axis=1))


@pytest.fixture
def dataset():
    """20 examples of 4 features and 3 classes."""
    return make_dataset()


@pytest.fixture
def make_trainer(tmp_path):
    """A function that builds the same trainer each time: 4 iterations an epoch."""

    def make(stop=(2, "epoch"), extensions=(), dataset=None, **options):
        vdcore.seed(11)
        dataset = dataset or make_dataset()
        model = Classifier(len(dataset))
        updater = StandardUpdater(
            SerialIterator(dataset, 5),
            Adam(0.01).setup(model),
            loss_func=model.calc_loss,
            **options,
        )
        return Trainer(updater, stop, out=tmp_path / "result", extensions=extensions)

    return make
