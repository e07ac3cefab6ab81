"""Peak memory of a backward pass: our torch layers, pytorch_ard's, plain torch's.

Each case runs in a process of its own: what its resident memory, at its highest in
three steps, is above that of the model with its gradients. Linux only. pytorch_ard
0.2.4 is measured where it can be imported (``PYTHONPATH``).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _measure import markdown_table, parse_arguments, report

CASES = {
    "784-300-100-10, batch 100": ("mlp", (100, 784)),
    "1024-1024-1024-10, batch 128": ("wide", (128, 1024)),
    "LeNet-5, batch 100": ("convolutional", (100, 1, 28, 28)),
}


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0], add_options)
    if arguments.case:
        print(peak(*arguments.case))
        return
    import _torch_layers

    rows, figures = [], {}
    for title in CASES:
        for package in _torch_layers.PACKAGES:
            command = [sys.executable, __file__, "--threads", str(arguments.threads)]
            output = subprocess.run(
                [*command, "--case", title, package],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            mib = float(output.split()[-1])
            rows.append([title, package, f"{mib:.0f}"])
            figures[f"{title}, {package}"] = mib
    table = markdown_table(["step", "layers", "MiB"], rows)
    title = "Peak memory of a backward pass of variational layers in torch"
    threads, quick = arguments.threads, arguments.quick
    report("torch_peak_memory", title, table, figures, threads, quick)


def add_options(parser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--case", nargs=2, metavar=("NETWORK", "LAYERS"))


def peak(title: str, package: str) -> float:
    """MiB of a case above the model and its gradients, in this process."""
    import _torch_layers
    import torch

    layers = _torch_layers.PACKAGES[package]
    builder, shape = CASES[title]
    torch.manual_seed(0)
    network = getattr(_torch_layers, builder)(layers)
    loss = _torch_layers.objective(network, layers, 60000)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    x, t = torch.rand(shape), torch.randint(0, 10, shape[:1])
    warm_up(layers, convolutional=len(shape) == 4)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest is the present
    for _ in range(3):
        network.zero_grad(set_to_none=False)
        loss(x, t).backward()
    return status("VmHWM") - before


def warm_up(layers, convolutional: bool) -> None:
    """Load libraries and compile kernels, on a small network."""
    import _torch_layers
    import torch
    from torch import nn

    parts = [layers.linear(75, 70), nn.ReLU(), layers.linear(70, 10)]
    x = torch.rand(5, 75)
    if convolutional:
        parts = [layers.convolution(1, 3, 4), nn.Flatten(), *parts]
        x = torch.rand(5, 1, 8, 8)
    network = nn.Sequential(*parts)
    loss = _torch_layers.objective(network, layers, 100)
    for _ in range(2):
        loss(x, torch.zeros(5, dtype=torch.int64)).backward()


def status(key: str) -> float:
    """A figure that the kernel keeps of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
