"""One training step of LeNet-300-100 on a batch of 100: vdcore against torch.

Interleaved in one process: vdcore's variational step (with the statistics it reports)
and its dense one, and torch's, eager and compiled, each with Adam as torch runs it by
default and with its fused Adam. Before anything is timed, the variational networks are
checked to have the same loss for the same weights.
"""

from __future__ import annotations

from _measure import interleave, markdown_table, parse_arguments, report

BATCH, NUM_EXAMPLES = 100, 60000


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    import numpy
    import torch
    from _torch_mlp import lenet300100, training_step

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rng = numpy.random.default_rng(0)
    x = rng.random((BATCH, 784), dtype=numpy.float32)
    t = rng.integers(0, 10, BATCH).astype(numpy.int32)

    def torch_step(variational, fused=False, compiled=False):
        return training_step(
            lenet300100(variational),
            NUM_EXAMPLES,
            torch.from_numpy(x),
            torch.from_numpy(t).long(),
            fused=fused,
            compiled=compiled,
        )

    check_same_mathematics(x, t)
    cases = {
        "vdcore VD": vdcore_step(x, t, variational=True),
        "vdcore VD, 99 % masked": vdcore_step(x, t, variational=True, masked=True),
        "vdcore dense": vdcore_step(x, t, variational=False),
        "torch VD eager": torch_step(True),
        "torch VD eager, fused Adam": torch_step(True, fused=True),
        "torch dense eager": torch_step(False),
        "torch dense eager, fused Adam": torch_step(False, fused=True),
    }
    if not arguments.quick:  # compiling takes most of a minute
        compiled = torch_step(True, compiled=True)
        cases["torch VD compile"] = compiled
        cases["torch VD compile, fused Adam"] = torch_step(
            True, fused=True, compiled=True
        )
    rounds, seconds = (3, 0.1) if arguments.quick else (15, 0.5)
    timings = interleave(cases, rounds, seconds)

    ours = timings["vdcore VD"]
    rows = []
    for name, timing in timings.items():
        low, high = (f"{1e3 * bound:.2f}" for bound in timing.quartiles)
        times = [f"{1e3 * timing.median:.2f}", f"{low} - {high}"]
        rows.append([name, *times, f"{timing.ratio(ours):.2f}"])
    header = ["step", "ms", "quartiles", "times vdcore VD"]
    figures = {
        name: {"seconds": timing.rounds, "times_vdcore_vd": timing.ratio(ours)}
        for name, timing in timings.items()
    }
    report(
        "training_step",
        f"One training step, LeNet-300-100, batch {BATCH}",
        markdown_table(header, rows),
        figures,
        arguments.threads,
        arguments.quick,
    )


def vdcore_model(variational):
    import vdcore
    from vdcore import functions as F
    from vdcore import links as L

    linear = L.VariationalDropoutLinear if variational else L.Linear

    class LeNet300100(vdcore.Chain):
        def __init__(self):
            super().__init__()
            with self.init_scope():
                self.l1 = linear(784, 300)
                self.l2 = linear(300, 100)
                self.l3 = linear(100, 10)

        def forward(self, x):
            return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))

        def calc_loss(self, x, t):
            return F.softmax_cross_entropy(self(x), t)

    class LeNet300100VD(L.VariationalDropoutChain, LeNet300100):
        pass

    if variational:
        return LeNet300100VD(warm_up=0, num_examples=NUM_EXAMPLES)
    return LeNet300100()


def vdcore_step(x, t, variational, masked=False):
    """One step of Adam on the batch, as a function of no arguments.

    With `masked`, 99 % of the weights are noise and masks are on, as in the later
    epochs of a training.
    """
    import numpy

    import vdcore

    vdcore.seed(0)
    model = vdcore_model(variational)
    if masked:
        rng = numpy.random.default_rng(0)
        for _, link in model.variational_links():
            noise = rng.random(link.W.array.shape) < 0.99
            link.W.array[noise] = 1e-4
            link.log_sigma2.array[noise] = -8.0
        model.set_mask_in_training(True)
    optimizer = vdcore.optimizers.Adam(1e-3).setup(model)
    return lambda: optimizer.update(model.calc_loss, x, t)


def check_same_mathematics(x, t):
    """Assert that both libraries' variational objectives agree, noise aside."""
    import numpy
    import torch
    from _torch_mlp import lenet300100, objective

    import vdcore

    ours, theirs = vdcore_model(variational=True), lenet300100(variational=True).eval()
    layers = [layer for layer in theirs if hasattr(layer, "log_sigma2")]
    for link, layer in zip(ours.children(), layers, strict=True):
        for name in ("W", "log_sigma2", "b"):
            getattr(link, name).array = getattr(layer, name).detach().numpy().copy()
    sizes = [sum(p.array.size for p in ours.params())]
    sizes.append(sum(p.numel() for p in theirs.parameters()))
    assert sizes == [532810, 532810], sizes
    with vdcore.using_config("train", False):
        value = float(ours.calc_loss(x, t))
    loss = objective(theirs, NUM_EXAMPLES)
    with torch.no_grad():
        expected = float(loss(torch.from_numpy(x), torch.from_numpy(t).long()))
    numpy.testing.assert_allclose(value, expected, rtol=1e-4)


if __name__ == "__main__":
    main()
