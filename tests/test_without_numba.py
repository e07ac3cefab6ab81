"""Training, export and prediction where numba cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy

from vdcore.backends import sparse_backend

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys

class NoNumba:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoNumba())

import numpy
import vdcore
from vdcore import Sequential, datasets, functions as F, iterators, links as L
from vdcore import optimizers, serializers, training
from vdcore.backends import numpy_backend

class Net(L.VariationalDropoutChain):
    def __init__(self):
        super().__init__(num_examples=400, warm_up=0)
        with self.init_scope():
            self.layers = Sequential(
                L.VariationalDropoutLinear(20, 30, kl="exact"),
                F.relu,
                L.VariationalDropoutLinear(30, 2, mask_in_training=True),
            )

    def forward(self, x):
        return self.layers(x)

vdcore.seed(0)
x, t = numpy.load("x.npy"), numpy.load("t.npy")
model = Net()
optimizer = optimizers.Adam(0.01).setup(model)
iterator = iterators.SerialIterator(datasets.TupleDataset(x[:400], t[:400]), 50)
updater = training.StandardUpdater(iterator, optimizer, loss_func=model.calc_loss)
training.Trainer(updater, (200, "iteration"), out=".").run()

sparse = model.to_cpu_sparse()
sparse.save("sparse.npz")
serializers.save_npz("model.npz", model)
numpy.save("y.npy", sparse.predict(x))
print(numpy_backend.description())
assert sys.modules.get("numba") is None
"""


def test_trains_exports_and_predicts(tmp_path, rng):
    x = rng.standard_normal((500, 20), dtype=numpy.float32)
    t = (x[:, 0] + x[:, 1] > 0).astype(numpy.int32)
    numpy.save(tmp_path / "x.npy", x)
    numpy.save(tmp_path / "t.npy", t)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "NumPy, cache-blocked" in result.stdout

    with numpy.load(tmp_path / "model.npz") as model:
        h = x.astype(float)
        for k in (0, 1):
            W, log_sigma2, b = (
                model[f"layers/{k}/{name}"].astype(float)
                for name in ("W", "log_sigma2", "b")
            )
            keep = log_sigma2 - numpy.log(W**2 + 1e-8) <= 3
            assert 0 < keep.sum() < keep.size
            h = numpy.maximum(h, 0) if k else h
            h = h @ (W * keep).T + b
    y = numpy.load(tmp_path / "y.npy")
    numpy.testing.assert_allclose(y, h, atol=1e-5)
    loaded = sparse_backend.load(tmp_path / "sparse.npz")
    numpy.testing.assert_allclose(loaded.predict(x), h, atol=1e-5)
    assert (y[400:].argmax(axis=1) == t[400:]).mean() > 0.9  # it did learn
