"""One training step of a network of the examples: vdcore against torch.

Interleaved in one process: vdcore's variational step (with the statistics it reports)
and its dense one, and torch's, eager and compiled, each with Adam as torch runs it by
default and with its fused Adam. Before anything is timed, the variational networks are
checked to have the same loss for the same weights.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from _measure import interleave, markdown_table, parse_arguments, report

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Network(NamedTuple):
    """A network, the batch that is timed, and how often.

    Attributes
    ----------
    title : str
    example : str
        Folder of the example that has it in ``net.py``.
    plain : str
        Name of its class; that of the variational form ends in VD.
    torch : str
        Name of the function of ``_torch_networks`` that builds the rival.
    batch : int
    shape : tuple of int
        Of one input.
    num_examples : int
    parameters : int
        Of the variational form.
    rounds : int
    """

    title: str
    example: str
    plain: str
    torch: str
    batch: int
    shape: tuple[int, ...]
    num_examples: int
    parameters: int
    rounds: int


NETWORKS = {
    "lenet300100": Network(
        "LeNet-300-100", "mnist", "LeNet300100", "lenet300100", 100, (784,), 60000,
        532_810, 15,
    ),
    "lenet5": Network(
        "LeNet-5", "mnist", "LeNet5", "lenet5", 100, (1, 28, 28), 60000, 861_580, 15
    ),
    "vgg16": Network(
        "VGG16", "cifar", "VGG16", "vgg16", 32, (3, 32, 32), 50000, 29_964_928, 7
    ),
}  # fmt: skip


def main() -> None:
    arguments = parse_arguments(
        __doc__.splitlines()[0],
        lambda parser: parser.add_argument(
            "--network", choices=NETWORKS, nargs="+", default=list(NETWORKS)
        ),
    )
    for name in arguments.network:
        measure(name, arguments.threads, arguments.quick)


def measure(name, threads, quick):
    import numpy
    import torch
    from _torch_networks import training_step

    network = NETWORKS[name]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rng = numpy.random.default_rng(0)
    x = rng.random((network.batch, *network.shape), dtype=numpy.float32)
    t = rng.integers(0, 10, network.batch).astype(numpy.int32)

    def torch_step(variational, fused=False, compiled=None):
        return training_step(
            torch_network(network, variational),
            network.num_examples,
            torch.from_numpy(x),
            torch.from_numpy(t).long(),
            fused=fused,
            compiled=compiled,
        )

    check_same_mathematics(network, x, t)
    cases = {
        "vdcore VD": vdcore_step(network, x, t, variational=True),
        "vdcore VD, 99 % masked": vdcore_step(
            network, x, t, variational=True, masked=True
        ),
        "vdcore dense": vdcore_step(network, x, t, variational=False),
        "torch VD eager": torch_step(True),
        "torch VD eager, fused Adam": torch_step(True, fused=True),
        "torch dense eager": torch_step(False),
        "torch dense eager, fused Adam": torch_step(False, fused=True),
    }
    if not quick:  # compiling takes most of a minute
        compiled = torch_step(True, compiled={})
        cases["torch VD compile"] = compiled
        cases["torch VD compile, fused Adam"] = torch_step(
            True, fused=True, compiled={}
        )
    rounds, seconds = (3, 0.1) if quick else (network.rounds, 0.5)
    timings = interleave(cases, rounds, seconds)

    ours = timings["vdcore VD"]
    rows = []
    for case, timing in timings.items():
        low, high = (f"{1e3 * bound:.2f}" for bound in timing.quartiles)
        times = [f"{1e3 * timing.median:.2f}", f"{low} - {high}"]
        rows.append([case, *times, f"{timing.ratio(ours):.2f}"])
    header = ["step", "ms", "quartiles", "times vdcore VD"]
    figures = {
        case: {"seconds": timing.rounds, "times_vdcore_vd": timing.ratio(ours)}
        for case, timing in timings.items()
    }
    report(
        f"training_step_{name}",
        f"One training step, {network.title}, batch {network.batch}",
        markdown_table(header, rows),
        figures,
        threads,
        quick,
    )


def torch_network(network, variational):
    import _torch_networks

    return getattr(_torch_networks, network.torch)(variational)


def vdcore_model(network, variational):
    path = EXAMPLES / network.example / "net.py"
    spec = importlib.util.spec_from_file_location(f"{network.example}_net", path)
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    if variational:
        form = getattr(net, f"{network.plain}VD")
        return form(warm_up=0, num_examples=network.num_examples)
    return getattr(net, network.plain)()


def vdcore_step(network, x, t, variational, masked=False):
    """One step of Adam on the batch, as a function of no arguments.

    With `masked`, 99 % of the weights are noise and masks are on, as in the later
    epochs of a training.
    """
    import numpy

    import vdcore
    from vdcore import functions as F

    vdcore.seed(0)
    model = vdcore_model(network, variational)
    if masked:
        rng = numpy.random.default_rng(0)
        for _, link in model.variational_links():
            noise = rng.random(link.W.array.shape) < 0.99
            link.W.array[noise] = 1e-4
            link.log_sigma2.array[noise] = -8.0
        model.set_mask_in_training(True)
    optimizer = vdcore.optimizers.Adam(1e-3).setup(model)
    if variational:
        return lambda: optimizer.update(model.calc_loss, x, t)
    return lambda: optimizer.update(
        lambda x, t: F.softmax_cross_entropy(model(x), t), x, t
    )


def check_same_mathematics(network, x, t):
    """Assert that both libraries' variational objectives agree, noise aside."""
    import numpy
    import torch
    from _torch_networks import objective

    import vdcore

    ours = vdcore_model(network, variational=True)
    theirs = torch_network(network, variational=True).eval()
    layers = [layer for layer in theirs if hasattr(layer, "log_sigma2")]
    links = [link for _, link in ours.variational_links()]
    for link, layer in zip(links, layers, strict=True):
        for name in ("W", "log_sigma2", "b"):
            parameter = getattr(layer, name)
            if parameter is not None:
                getattr(link, name).array = parameter.detach().numpy().copy()
    sizes = [sum(p.array.size for p in ours.params())]
    sizes.append(sum(p.numel() for p in theirs.parameters()))
    assert sizes == [network.parameters] * 2, sizes
    with vdcore.using_config("train", False):
        value = float(ours.calc_loss(x, t))
    loss = objective(theirs, network.num_examples)
    with torch.no_grad():
        expected = float(loss(torch.from_numpy(x), torch.from_numpy(t).long()))
    numpy.testing.assert_allclose(value, expected, rtol=1e-4)


if __name__ == "__main__":
    main()
