"""One training step of variational torch layers: ours, pytorch_ard's, plain torch's.

Interleaved in one process, float32, the same Adam. Memory is that of the arrays which
autograd keeps between the passes, parameters and inputs apart. pytorch_ard 0.2.4 is
measured where it can be imported (``PYTHONPATH``).
"""

from __future__ import annotations

from _measure import interleave, markdown_table, parse_arguments, report

CASES = {
    "784-300-100-10, batch 100": ("mlp", (100, 784)),
    "1024-1024-1024-10, batch 128": ("wide", (128, 1024)),
    "LeNet-5, batch 100": ("convolutional", (100, 1, 28, 28)),
}
NUM_EXAMPLES = 60000


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    import _torch_layers
    import torch

    torch.set_num_threads(arguments.threads)
    rows, figures = [], {}
    for title, (builder, shape) in CASES.items():
        x, t = torch.rand(shape), torch.randint(0, 10, shape[:1])
        steps, kept = {}, {}
        for package, layers in _torch_layers.PACKAGES.items():
            torch.manual_seed(0)
            network = getattr(_torch_layers, builder)(layers)
            loss = _torch_layers.objective(network, layers, NUM_EXAMPLES)
            kept[package] = kept_bytes(network, loss, x, t)
            steps[package] = training_step(network, loss, x, t)
        rounds, seconds = (3, 0.2) if arguments.quick else (9, 0.25)
        timings = interleave(steps, rounds, seconds)
        ours = timings["vdcore"]
        for package, timing in timings.items():
            low, high = (f"{1e3 * bound:.2f}" for bound in timing.quartiles)
            rows.append(
                [
                    f"{title}, {package}",
                    f"{1e3 * timing.median:.2f}",
                    f"{low} - {high}",
                    f"{timing.ratio(ours):.2f}",
                    f"{kept[package] / 1e6:.2f}",
                    f"{kept[package] / kept['vdcore']:.1f}",
                ]
            )
            figures[f"{title}, {package}"] = {
                "seconds": timing.rounds,
                "times_vdcore": timing.ratio(ours),
                "bytes_kept": kept[package],
            }
    header = ["step", "ms", "quartiles", "times vdcore", "MB kept", "times vdcore"]
    report(
        "torch_layers",
        "One training step of variational layers in torch",
        markdown_table(header, rows),
        figures,
        arguments.threads,
        arguments.quick,
    )


def training_step(network, loss, x, t):
    """One step of Adam, as a function of no arguments."""
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss(x, t).backward()
        optimizer.step()

    return step


def kept_bytes(network, loss, x, t):
    """Bytes of the arrays that autograd keeps for the backward pass."""
    import torch

    known = {p.untyped_storage().data_ptr() for p in [x, t, *network.parameters()]}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss(x, t)  # alive, and with it all that is kept
    total = sum(storage.nbytes() for storage in kept.values())
    value.backward()
    return total


if __name__ == "__main__":
    main()
