"""Convolutions on a GPU: cuDNN against products of matrices, layer by layer.

Each operation of each layer is recorded as a CUDA graph, so that the times are the
GPU's. Results of both engines are compared first.
"""

from __future__ import annotations

from typing import NamedTuple

from _measure import interleave, markdown_table, parse_arguments, report
from gpu_training_step import there_is_a_gpu

REPEATS = 20  # of an operation in a graph
BATCH = 128


class Layer(NamedTuple):
    """A convolution's images and weights; `size` is that of images and of windows."""

    title: str
    size: tuple[int, int]
    channels: tuple[int, int]


LAYERS = [
    Layer("LeNet-5, 1", (28, 5), (1, 20)),
    Layer("LeNet-5, 2", (12, 5), (20, 50)),
    Layer("VGG16, 1", (32, 3), (3, 64)),
    Layer("VGG16, 2", (32, 3), (64, 64)),
    Layer("VGG16, 4", (16, 3), (128, 128)),
    Layer("VGG16, 6", (8, 3), (256, 256)),
    Layer("VGG16, 9", (4, 3), (512, 512)),
    Layer("VGG16, 12", (2, 3), (512, 512)),
]


def main() -> None:
    def add_options(parser):
        parser.add_argument("--tf32", action="store_true", help="products in TF32")
        parser.add_argument(
            "--dense", action="store_true", help="means only, as layers without noise"
        )

    arguments = parse_arguments(__doc__.splitlines()[0], add_options)
    if not there_is_a_gpu() or not there_is_cudnn():
        return
    import cupy

    import vdcore

    vdcore.config.tf32 = arguments.tf32
    powers = 1 if arguments.dense else 2
    rows, figures = [], {}
    for layer in LAYERS:
        for operation, engines in calls(layer, powers).items():
            check_same(layer, operation, engines, 5e-3 if arguments.tf32 else 1e-5)
            graphs = {name: recorded(call) for name, call in engines.items()}
            rounds, seconds = (3, 0.01) if arguments.quick else (9, 0.05)
            timings = interleave(graphs, rounds, seconds)
            ratio = timings["unfolding"].ratio(timings["cuDNN"])
            times = [1e6 * timing.median / REPEATS for timing in timings.values()]
            title = f"{layer.title}, {operation}"
            rows.append([title, *(f"{t:.1f}" for t in times), f"{ratio:.2f}"])
            figures[title] = {
                name: [seconds / REPEATS for seconds in timing.rounds]
                for name, timing in timings.items()
            }
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    precision = "TF32" if arguments.tf32 else "float32"
    kind = "dense" if arguments.dense else "noisy"
    header = ["operation", "cuDNN, us", "unfolding, us", "unfolding / cuDNN"]
    report(
        f"gpu_convolution_{kind}_{precision.lower()}",
        f"Convolutions, {kind}, batch {BATCH}, {precision}, on one {device}",
        markdown_table(header, rows),
        {"operations": figures, "gpu": device},
        arguments.threads,
        arguments.quick,
    )


def there_is_cudnn():
    """Whether it can be used; if not, says why."""
    from vdcore.backends.cuda.cudnn_library import UnsupportedError, frontend

    try:
        frontend()
    except UnsupportedError as error:
        print(f"nothing measured of cuDNN: {error}")
        return False
    return True


def calls(layer, powers):
    """For each operation, functions of both engines."""
    import cupy
    import numpy

    from vdcore.backends.cuda import cudnn_engine, unfolding
    from vdcore.windows import Window

    (pixels, rows), (channels, outputs) = layer.size, layer.channels
    window = Window((rows, rows), pad=(1, 1) if rows == 3 else (0, 0))
    positions = window.positions((pixels, pixels))
    shape = (outputs, rows, rows, channels)
    rng = numpy.random.default_rng(0)

    def normal(*shape):
        return cupy.asarray(rng.standard_normal(shape, dtype=numpy.float32))

    x = normal(BATCH, pixels, pixels, channels)
    weights, slopes = normal(powers, *shape), normal(powers, BATCH, *positions, outputs)
    arguments = {
        "products": (x, weights, window, 1),
        "weight_products": (x, slopes, shape, window, 1),
        "input_gradient": (x, slopes, weights, window, 1),
    }
    engines = {"cuDNN": cudnn_engine, "unfolding": unfolding}
    return {
        operation.replace("_", " "): {
            name: lambda e=engine, o=operation, g=given: getattr(e, o)(*g)
            for name, engine in engines.items()
        }
        for operation, given in arguments.items()
    }


def check_same(layer, operation, engines, tolerance):
    """Raise if results differ by more than a share of the largest number."""
    ours, others = (call() for call in engines.values())
    if operation == "weight products":
        ours, others = ours.sum(1), others.sum(1)
    error = float(abs(ours - others).max() / abs(others).max())
    assert error <= tolerance, f"{layer.title}, {operation}: off by {error}"


def recorded(call):
    """A function that does it many times, and waits for the GPU."""
    import cupy

    from vdcore.backends.cuda.graph import StepGraph

    def step():
        for _ in range(REPEATS):
            call()

    call()
    graph = StepGraph(step)

    def run():
        graph.repeat()
        cupy.cuda.runtime.deviceSynchronize()

    return run


if __name__ == "__main__":
    main()
