"""Sparse variational dropout in a minute, on scikit-learn's 8x8 digits.

Trains a small network, shows how its weights die off, prunes it and runs it sparse.
Nothing is downloaded.
"""

from __future__ import annotations

import argparse

import vdcore
from vdcore import Sequential, datasets, inspection, iterators, optimizers, training
from vdcore import functions as F
from vdcore import links as L
from vdcore.backends import numpy_backend
from vdcore.training import extensions

COLUMNS = (
    "epoch main/loss main/kl_coef validation/main/accuracy main/sparsity main/W/Wnz "
    "elapsed_time"
).split()


class DigitNet(L.VariationalDropoutChain):
    """64-200-100-10 with rectifiers, every weight with its own noise."""

    def __init__(self, num_examples: int) -> None:
        super().__init__(num_examples=num_examples, warm_up=0)
        with self.init_scope():
            self.layers = Sequential(
                L.VariationalDropoutLinear(64, 200),
                F.relu,
                L.VariationalDropoutLinear(200, 100),
                F.relu,
                L.VariationalDropoutLinear(100, 10),
            )

    def forward(self, x):
        return self.layers(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-e", "--epoch", type=int, default=200)
    parser.add_argument("-o", "--out", default="result/digits")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    vdcore.seed(args.seed)
    train, test = datasets.get_digits()
    model = DigitNet(len(train))
    optimizer = optimizers.Adam(2e-3).setup(model)
    print(f"digits: {len(train)} training, {len(test)} test images of 8x8 pixels")
    print(f"kernels: {numpy_backend.description()}")
    if numpy_backend.COMPILED:
        print("the first run compiles the kernels: some seconds", flush=True)

    updater = training.StandardUpdater(
        iterators.SerialIterator(train, 50), optimizer, loss_func=model.calc_loss
    )
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    every = (max(1, args.epoch // 10), "epoch")
    trainer.extend(
        extensions.Evaluator(
            iterators.SerialIterator(test, 500, repeat=False, shuffle=False),
            model,
            eval_func=model.calc_loss,
        )
    )
    trainer.extend(
        extensions.LinearShift("alpha", (2e-3, 0), (args.epoch / 2, args.epoch),
                               unit="epoch")
    )  # fmt: skip
    trainer.extend(extensions.KLWarmUp(model, args.epoch * 0.05, args.epoch * 0.3))
    trainer.extend(extensions.LogReport(trigger=every))
    trainer.extend(extensions.PrintReport(COLUMNS))
    trainer.extend(extensions.ProgressBar())
    trainer.extend(
        extensions.PlotReport(
            ["main/class", "validation/main/class"],
            "epoch",
            file_name="loss.png",
            title="class loss, without the KL term",
            y_label="cross-entropy",
        )
    )
    trainer.extend(extensions.snapshot(), trigger=(args.epoch, "epoch"))
    trainer.run()

    print()
    print(inspection.summarize(model, *test.arrays, args.out, settings=vars(args)))
    print(f"pictures: loss.png, log_alpha.png, masks.png in {args.out}")


if __name__ == "__main__":
    main()
