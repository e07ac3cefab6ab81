"""Kernels that a process compiles, and those that it finds compiled."""

import os
import subprocess
import sys

TRAINING = """
import hashlib
import numpy
import vdcore
from vdcore import functions as F, links as L, optimizers

class Net(L.VariationalDropoutChain):
    def __init__(self):
        super().__init__(num_examples=100, warm_up=0)
        with self.init_scope():
            self.fc1 = L.VariationalDropoutLinear(40, 30)
            self.norm = L.BatchNormalization(30)
            self.fc2 = L.VariationalDropoutLinear(30, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.norm(self.fc1(x))))

vdcore.seed(0)
rng = numpy.random.default_rng(0)
model = Net()
optimizer = optimizers.Adam(0.01).setup(model)
for step in range(4):
    model.set_mask_in_training(step > 1)
    x = rng.standard_normal((32, 40), dtype=numpy.float32)
    optimizer.update(model.calc_loss, x, rng.integers(0, 10, 32))
digest = hashlib.sha256()
for parameter in model.params():
    digest.update(parameter.array.tobytes())
print(digest.hexdigest())
"""


def test_they_round_alike(numba, tmp_path):
    """Or a run that is resumed in the next process would not go on bit for bit."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    digests = []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", TRAINING],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(run.stdout)
    assert list(tmp_path.rglob("*.nbc"))
    assert digests[0] == digests[1]
