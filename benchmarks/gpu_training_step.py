"""One training step on a GPU: vdcore, eager and as a CUDA graph, against torch.

Interleaved in one process, on one GPU, the same mathematics (checked first), Adam, all
with float32 arrays; with --tf32 both libraries may round factors of products to TF32,
without it neither may. Each time is that of many steps, waited for once at the end.
torch runs eager, eager with channels last in memory, and compiled in the mode that uses
CUDA graphs; its Adam is the fused one, its fastest.
"""

from __future__ import annotations

from _measure import interleave, markdown_table, parse_arguments, report
from training_step import (
    NETWORKS,
    check_same_mathematics,
    torch_network,
    vdcore_model,
)

BATCHES = {"lenet300100": 100, "lenet5": 100, "vgg16": 128}
STEPS = {"lenet300100": 200, "lenet5": 200, "vgg16": 10}  # between two waits


def main() -> None:
    def add_options(parser):
        parser.add_argument(
            "--network", choices=NETWORKS, nargs="+", default=list(NETWORKS)
        )
        parser.add_argument(
            "--tf32", action="store_true", help="products in TF32 in both libraries"
        )

    arguments = parse_arguments(__doc__.splitlines()[0], add_options)
    if not there_is_a_gpu():
        return
    for name in arguments.network:
        measure(name, arguments.tf32, arguments.threads, arguments.quick)


def there_is_a_gpu():
    """Whether CuPy can use one; if not, says why."""
    import numpy

    import vdcore

    try:
        vdcore.arrays.to_device(numpy.zeros(1), 0)
    except RuntimeError as error:
        print(f"nothing measured on a GPU: {error}")
        return False
    return True


def measure(name, tf32, threads, quick):
    import cupy
    import numpy
    import torch

    import vdcore

    network = NETWORKS[name]._replace(batch=BATCHES[name])
    rng = numpy.random.default_rng(0)
    x = rng.random((network.batch, *network.shape), dtype=numpy.float32)
    t = rng.integers(0, 10, network.batch).astype(numpy.int32)
    check_same_mathematics(network, x, t)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    vdcore.config.tf32 = tf32

    memory = {}
    cases = {
        "vdcore VD, graph": vdcore_step(network, x, t, memory),
        "vdcore VD": vdcore_step(network, x, t, memory, graph=False),
        "vdcore dense, graph": vdcore_step(network, x, t, memory, variational=False),
        "torch VD eager": torch_step(network, x, t),
        "torch dense eager": torch_step(network, x, t, variational=False),
    }
    if len(network.shape) == 3:
        last = torch_step(network, x, t, channels_last=True)
        cases["torch VD eager, channels last"] = last
    if not quick:
        reduced = {"mode": "reduce-overhead"}
        cases["torch VD compile"] = torch_step(network, x, t, compiled={})
        cases["torch VD compile, graph"] = torch_step(network, x, t, compiled=reduced)
        if len(network.shape) == 3:
            cases["torch VD compile, graph, channels last"] = torch_step(
                network, x, t, compiled=reduced, channels_last=True
            )
    steps = STEPS[name]
    repeated = {case: many(step, steps) for case, step in cases.items()}
    timings = interleave(repeated, 3 if quick else 9, 0.1 if quick else 0.3)

    ours = timings["vdcore VD, graph"]
    rows = [
        [
            case,
            f"{1e6 * timing.median / steps:.1f}",
            f"{timing.ratio(ours):.2f}",
            f"{memory[case] / 2**20:.0f}" if case in memory else "",
        ]
        for case, timing in timings.items()
    ]
    header = ["step", "us", "times vdcore VD, graph", "MiB taken"]
    figures = {
        case: {
            "seconds": [seconds / steps for seconds in timing.rounds],
            "times_vdcore_vd_graph": timing.ratio(ours),
            "bytes": memory.get(case),
        }
        for case, timing in timings.items()
    }
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    precision = "TF32" if tf32 else "float32"
    report(
        f"gpu_training_step_{name}_{precision.lower()}",
        f"One training step, {network.title}, batch {network.batch}, {precision} "
        f"products, on one {device}",
        markdown_table(header, rows),
        figures | {"gpu": device, "command": command(name, tf32)},
        threads,
        quick,
    )


def command(name, tf32):
    """The command of these figures."""
    options = f"--network {name}{' --tf32' if tf32 else ''}"
    return f"PYTHONPATH=. python benchmarks/gpu_training_step.py {options}"


def many(step, steps):
    """That many steps, and a wait for the GPU."""
    import cupy

    def run():
        for _ in range(steps):
            step()
        cupy.cuda.runtime.deviceSynchronize()

    return run


def vdcore_step(network, x, t, memory, *, variational=True, graph=True):
    """One step of Adam on the batch, which lies on the GPU; notes its memory."""
    import cupy

    import vdcore
    from vdcore import functions as F
    from vdcore.training.repeated_step import RepeatedStep

    vdcore.seed(0)
    model = vdcore_model(network, variational)
    with vdcore.using_config("train", False):
        model(x[:2])  # makes what depends on the input's shape
    model.to_device(0)
    x, t = cupy.asarray(x), cupy.asarray(t)
    optimizer = vdcore.optimizers.Adam(1e-3).setup(model)

    def plain_loss(x, t):
        return F.softmax_cross_entropy(model(x), t)

    loss = model.calc_loss if variational else plain_loss

    def step():
        optimizer.update(loss, x, t)

    # What a step takes besides parameters and moments, at most.
    pool = cupy.cuda.MemoryPool()
    step()
    with cupy.cuda.using_allocator(pool.malloc):
        step()
        name = "vdcore VD" if variational else "vdcore dense"
        memory[f"{name}, graph" if graph else name] = pool.total_bytes()
        model.cleargrads()
    return RepeatedStep(step, model, optimizer) if graph else step


def torch_step(network, x, t, *, variational=True, compiled=None, channels_last=False):
    """One step of torch on the GPU, with its fused Adam."""
    import torch
    from _torch_networks import training_step

    torch.manual_seed(0)
    model = torch_network(network, variational).cuda()
    x = torch.from_numpy(x).cuda()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    return training_step(
        model,
        network.num_examples,
        x,
        torch.from_numpy(t).long().cuda(),
        fused=True,
        compiled=compiled,
    )


if __name__ == "__main__":
    main()
