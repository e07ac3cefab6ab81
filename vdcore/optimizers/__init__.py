"""Optimizers with Chainer's names and update rules, and their hooks."""

from vdcore.optimizers.adadelta import AdaDelta
from vdcore.optimizers.adam import Adam
from vdcore.optimizers.hooks import GradientClipping, WeightDecay
from vdcore.optimizers.loss_guard import NonFiniteLossError
from vdcore.optimizers.optimizer import Optimizer
from vdcore.optimizers.sgd import SGD, MomentumSGD

__all__ = [
    "SGD",
    "AdaDelta",
    "Adam",
    "GradientClipping",
    "MomentumSGD",
    "NonFiniteLossError",
    "Optimizer",
    "WeightDecay",
]
