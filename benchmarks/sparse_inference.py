"""Forward of a pruned LeNet-300-100 on the CPU: vdcore's sparse model against dense.

Interleaved in one process: NumPy's and torch's dense networks, and the sparse model
with SciPy's products and compiled. The weights are a random pattern of the sparsities
that sparse variational dropout reaches, or those of --model, a file that
SparseModel.save wrote. With --break-even: the densities below which single layers are
faster sparse.
"""

from __future__ import annotations

import os
import sys
from functools import partial

from _measure import interleave, markdown_table, parse_arguments, report

BATCHES = (1, 16, 128, 1024)
SIZES = ((784, 300), (300, 100), (100, 10))  # in, out
SPARSITIES = (0.989, 0.972, 0.62)  # Molchanov et al. 2017, table 1
BREAK_EVEN_SIZES = ((784, 300), (1024, 1024), (2048, 2048))


def main() -> None:
    arguments = parse_arguments(__doc__, add_options)
    if arguments.break_even:
        break_even(arguments)
    else:
        forward(arguments, arguments.model)


def add_options(parser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--model", help="file that SparseModel.save wrote")
    parser.add_argument(
        "--break-even", action="store_true", help="time single layers instead"
    )


def forward(arguments, path) -> None:
    """Time whole networks at all batch sizes."""
    import numpy

    from vdcore.backends import sparse_backend

    rng = numpy.random.default_rng(0)
    layers = sparse_backend.load(path).layers if path else random_layers(rng)
    rows, figures = [], {}
    for batch in BATCHES:
        x = rng.random((batch, layers[0].W.shape[1]), dtype=numpy.float32)
        cases = {"NumPy dense": numpy_dense(layers, x)}
        if torch_case := torch_dense(layers, x, arguments.threads):
            cases["torch dense"] = torch_case
        cases["sparse, SciPy"] = sparse(layers, x, arguments.threads, compiled=False)
        cases["sparse, compiled"] = sparse(layers, x, arguments.threads, compiled=True)
        expected = cases["NumPy dense"]()
        for case in cases.values():
            numpy.testing.assert_allclose(case(), expected, atol=1e-5)
        rounds, seconds = (3, 0.05) if arguments.quick else (15, 0.2)
        timings = interleave(cases, rounds, seconds)
        dense = [timing for name, timing in timings.items() if "dense" in name]
        fastest = min(dense, key=lambda timing: timing.median)
        for name, timing in timings.items():
            low, high = (f"{1e6 * bound:.1f}" for bound in timing.quartiles)
            median, gain = f"{1e6 * timing.median:.1f}", fastest.ratio(timing)
            rows.append([name, str(batch), median, f"{low} - {high}", f"{gain:.2f}"])
            figures[f"{name}, batch {batch}"] = {
                "seconds": timing.rounds,
                "times_faster_than_dense": gain,
            }
    kept = sum(layer.kept for layer in layers)
    total = sum(layer.size for layer in layers)
    what = os.path.basename(path) if path else "random pattern"
    report(
        "sparse_inference",
        f"Sparse forward, {kept:,} of {total:,} weights ({what})",
        markdown_table(
            ["forward", "batch", "us", "quartiles", "times faster than dense"], rows
        ),
        figures,
        arguments.threads,
        arguments.quick,
    )


def random_layers(rng):
    """Layers of LeNet-300-100 with the published sparsities, at random places."""
    import numpy

    from vdcore.backends.sparse.layer import pruned_layer

    layers = []
    for (in_size, out_size), sparsity in zip(SIZES, SPARSITIES, strict=True):
        size = in_size * out_size
        keep = numpy.zeros(size, bool)
        keep[rng.choice(size, round(size * (1 - sparsity)), replace=False)] = True
        W = rng.standard_normal((out_size, in_size), dtype=numpy.float32) * 0.1
        b = rng.standard_normal(out_size, dtype=numpy.float32)
        activation = "relu" if out_size > 10 else "identity"
        name = f"l{len(layers) + 1}"
        layers.append(pruned_layer(name, W, keep.reshape(W.shape), b, activation))
    return layers


def dense_weights(layers):
    return [layer.W.toarray() if layer.is_sparse else layer.W for layer in layers]


def numpy_dense(layers, x):
    import numpy

    weights = [numpy.ascontiguousarray(W.T) for W in dense_weights(layers)]
    check_activations(layers)

    def run():
        h = x
        for W, layer in zip(weights, layers, strict=True):
            h = h @ W
            h += layer.b
            if layer.activation == "relu":
                numpy.maximum(h, 0, out=h)
        return h

    return run


def torch_dense(layers, x, threads):
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    modules = []
    for W, layer in zip(dense_weights(layers), layers, strict=True):
        linear = torch.nn.Linear(*W.T.shape)
        linear.weight.data, linear.bias.data = map(torch.from_numpy, (W, layer.b))
        modules += [linear, torch.nn.ReLU()][: 2 if layer.activation == "relu" else 1]
    model = torch.nn.Sequential(*modules).eval()
    x = torch.from_numpy(x)

    def run():
        with torch.inference_mode():
            return model(x).numpy()

    return run


def check_activations(layers):
    if any(x.activation not in ("relu", "identity") or x.b is None for x in layers):
        sys.exit("sparse_inference: the model must be a rectifier network with biases")


def sparse(layers, x, threads, compiled):
    from vdcore.backends.sparse_backend import SparseModel

    os.environ["VDCORE_NUMBA"] = "1" if compiled else "0"
    model = SparseModel(layers, batch_size=len(x), threads=threads)
    os.environ.pop("VDCORE_NUMBA")
    return lambda: model.predict(x)


def break_even(arguments) -> None:
    """Find the density at which a layer takes the same time sparse and dense.

    The time of a sparse product is a straight line in the weights kept; the slope, and
    the time of a dense product for one of its weights, are the WEIGHT_TIMES of
    backends/sparse/runtime.py.
    """
    import numpy

    from vdcore.backends.sparse.layer import pruned_layer
    from vdcore.backends.sparse.products import dense_rows, feature_major
    from vdcore.backends.sparse.runtime import compiled_layers
    from vdcore.backends.sparse.shrink import shrink

    rng = numpy.random.default_rng(0)
    rounds, seconds = (3, 0.03) if arguments.quick else (7, 0.1)
    rows, figures = [], {}
    for in_size, out_size in BREAK_EVEN_SIZES:
        W = rng.standard_normal((out_size, in_size), dtype=numpy.float32)
        uniform = rng.random(W.shape)
        few, many = [
            shrink([pruned_layer("", W, uniform < density, None)], (in_size,))[0]
            for density in (0.02, 0.2)
        ]
        for batch in BATCHES:
            x = rng.random((batch, in_size), dtype=numpy.float32)
            cases = {"dense": partial(dense_rows([many]), x)}
            for name, layer in (("few", few), ("many", many)):
                compiled = compiled_layers([layer], arguments.threads)
                cases[f"compiled {name}"] = partial(compiled, x)
                csr = feature_major([layer], ["csr"], (in_size,))
                cases[f"csr {name}"] = partial(csr, x)
            timings = interleave(cases, rounds, seconds)
            times = {name: 1e9 * timing.median for name, timing in timings.items()}
            dense = times["dense"]
            row = [f"{in_size} x {out_size}", str(batch), f"{dense / W.size:.3f}"]
            for kind in ("compiled", "csr"):
                rise = times[f"{kind} many"] - times[f"{kind} few"]
                slope = rise / (many.kept - few.kept)
                fixed = times[f"{kind} few"] - slope * few.kept
                density = (dense - fixed) / slope / W.size
                row += [f"{slope:.3f}", f"{100 * density:.0f}"]
            rows.append(row)
            figures[f"{in_size} x {out_size}, batch {batch}"] = times
    report(
        "sparse_break_even",
        "Density at which a sparse layer takes as long as a dense one",
        markdown_table(
            [
                *("layer", "batch", "dense, ns a weight"),
                *("compiled, ns a weight", "break-even %"),
                *("SciPy, ns a weight", "break-even %"),
            ],
            rows,
        ),
        figures,
        arguments.threads,
        arguments.quick,
    )


if __name__ == "__main__":
    main()
