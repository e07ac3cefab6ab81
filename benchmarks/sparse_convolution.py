"""Convolutional networks of few weights on the CPU: the sparse model against torch.

Interleaved in one process: torch's dense network, as it comes and with the channels
last in memory, and the compiled sparse model. Single layers of a VGG, whole LeNet-5 and
VGG16, all with random patterns of about the sparsities that sparse variational dropout
reaches; or with --model the network of a file that SparseModel.save wrote.
"""

from __future__ import annotations

import math

from _measure import interleave, markdown_table, parse_arguments, report

BATCHES = (1, 16, 128)
LAYERS = ((64, 32), (128, 16), (256, 8), (512, 4), (512, 2))  # channels, pixels across
SPARSITIES = (0.95, 0.98)
# Fractions of weights left, LeNet-5-Caffe's and VGG16's first layer and the others.
LENET_5 = (0.35, 0.02, 0.002, 0.05)
VGG16 = (0.4, 0.02)
VGG16_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def main() -> None:
    arguments = parse_arguments(__doc__, add_options)
    rows, figures = [], {}
    if arguments.model:
        from vdcore.backends import sparse_backend

        model = sparse_backend.load(arguments.model)
        networks = {arguments.name: (model.layers, model.in_shape)}
        name = f"sparse_convolution_{arguments.name}"
    else:
        single_layers(arguments, rows, figures)
        networks = random_networks()
        name = "sparse_convolution"
    for title, (layers, in_shape) in networks.items():
        for batch in BATCHES:
            kept = sum(layer.kept for layer in layers)
            size = sum(layer.size for layer in layers)
            percent = f"{100 * (1 - kept / size):.1f}"
            compare(arguments, title, {percent: layers}, in_shape, batch, rows, figures)
    report(
        name,
        "Sparse convolutional forward against torch",
        markdown_table(
            ["network", "batch", "zeros %", "torch, us", "vdcore, us", "times faster"],
            rows,
        ),
        figures,
        arguments.threads,
        arguments.quick,
    )


def add_options(parser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--model", help="file that SparseModel.save wrote")
    parser.add_argument(
        "--name", default="model", help="of that network, in the table and its file"
    )


def single_layers(arguments, rows, figures) -> None:
    """Time convolutions, 3 x 3 with padding 1, as in a VGG."""
    import numpy

    for channels, across in LAYERS:
        title = f"conv {channels}, {across} x {across}"
        patterns = {
            f"{100 * sparsity:.1f}": [
                convolution(
                    numpy.random.default_rng(0), channels, channels, 3, 1 - sparsity
                )
            ]
            for sparsity in SPARSITIES
        }
        shape = (channels, across, across)
        for batch in BATCHES:
            compare(arguments, title, patterns, shape, batch, rows, figures)


def compare(arguments, title, patterns, in_shape, batch, rows, figures) -> None:
    """Time one batch of a network with one or more patterns of weights left."""
    import numpy

    from vdcore.backends.sparse_backend import SparseModel

    rng = numpy.random.default_rng(1)
    x = rng.standard_normal((batch, *in_shape), dtype=numpy.float32)
    cases = {}
    for percent, layers in patterns.items():
        dense = torch_network(layers, x, arguments.threads)
        model = SparseModel(
            layers, in_shape, batch_size=batch, threads=arguments.threads
        )
        expected, y = dense(), model(x)
        scale = abs(expected).max()
        numpy.testing.assert_allclose(y / scale, expected / scale, atol=1e-5)
        cases[percent] = lambda model=model: model(x)
    cases["torch"] = dense
    cases["torch, channels last"] = torch_network(
        layers, x, arguments.threads, channels_last=True
    )
    rounds, seconds = (3, 0.05) if arguments.quick else (9, 0.2)
    timings = interleave(cases, rounds, seconds)
    rivals = [timings.pop(name) for name in ("torch", "torch, channels last")]
    rival = min(rivals, key=lambda timing: timing.median)
    for percent, timing in timings.items():
        times = [f"{1e6 * each.median:.1f}" for each in (rival, timing)]
        gain = rival.ratio(timing)
        rows.append([title, str(batch), percent, *times, f"{gain:.1f}"])
        print(" ".join(rows[-1]), flush=True)
        figures[f"{title}, batch {batch}, {percent} % zeros"] = {
            "seconds": timing.rounds,
            "torch_seconds": rival.rounds,
            "times_faster": gain,
        }


def random_networks():
    """Whole networks, their weights left at random places."""
    import numpy

    rng = numpy.random.default_rng(0)
    one, two, three, four = LENET_5
    lenet_5 = [
        convolution(rng, 1, 20, 5, one, pad=0, activation="identity"),
        halving(),
        convolution(rng, 20, 50, 5, two, pad=0, activation="identity"),
        halving(),
        affine(rng, 800, 500, three, "relu"),
        affine(rng, 500, 10, four, "identity"),
    ]
    vgg16, inputs = [], 3
    for outputs, count in VGG16_STAGES:
        for _ in range(count):
            density = VGG16[inputs > 3]
            vgg16.append(convolution(rng, inputs, outputs, 3, density))
            inputs = outputs
        vgg16.append(halving())
    vgg16.append(affine(rng, 512, 512, VGG16[1], "relu"))
    vgg16.append(affine(rng, 512, 10, VGG16[1], "identity"))
    return {"LeNet-5": (lenet_5, (1, 28, 28)), "VGG16": (vgg16, (3, 32, 32))}


def convolution(rng, inputs, outputs, size, density, pad=1, activation="relu"):
    """A convolution with weights left at random places."""
    from vdcore.backends.sparse.layer import pruned
    from vdcore.backends.sparse_backend import Convolution
    from vdcore.windows import Window

    W, b, keep = weights(rng, outputs, inputs * size * size, density)
    window = Window((size, size), pad=(pad, pad))
    return pruned(Convolution("conv", W, b, activation, window=window), keep)


def affine(rng, inputs, outputs, density, activation):
    """An affine layer with weights left at random places."""
    from vdcore.backends.sparse.layer import pruned_layer

    W, b, keep = weights(rng, outputs, inputs, density)
    return pruned_layer("affine", W, keep, b, activation)


def weights(rng, outputs, inputs, density):
    """Weights that keep the size of what they are given, biases, which are left."""
    import numpy

    size = outputs * inputs
    keep = numpy.zeros(size, bool)
    keep[rng.choice(size, round(size * density), replace=False)] = True
    W = rng.standard_normal((outputs, inputs), dtype=numpy.float32)
    W *= numpy.float32(math.sqrt(2 / (density * inputs)))
    b = rng.standard_normal(outputs, dtype=numpy.float32) * numpy.float32(0.1)
    return W, b, keep.reshape(W.shape)


def halving():
    """Max pooling of squares of four pixels."""
    from vdcore.backends.sparse_backend import Pooling
    from vdcore.windows import Window

    return Pooling("pool", "max", Window((2, 2), (2, 2)))


def torch_network(layers, x, threads, channels_last=False):
    """The same network, dense."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    modules = []
    shape = x.shape[1:]
    for layer in layers:
        modules += torch_layer(layer, shape)
        shape = layer.out_shape(shape)
        activations = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
        if layer.activation == "softmax":
            modules.append(nn.Softmax(1))
        elif layer.activation != "identity":
            modules.append(activations[layer.activation]())
    model = nn.Sequential(*modules).eval()
    x = torch.from_numpy(x)
    if channels_last:
        model, x = (each.to(memory_format=torch.channels_last) for each in (model, x))

    def run():
        with torch.inference_mode():
            return model(x).numpy()

    return run


def torch_layer(layer, in_shape):
    """The torch modules of one layer."""
    import torch
    from torch import nn

    from vdcore.backends.sparse_backend import Convolution, Flatten, Layer, Pooling

    if isinstance(layer, Pooling):
        kind = nn.MaxPool2d if layer.kind == "max" else nn.AvgPool2d
        window = layer.window
        sides = (window.size, window.stride, window.pad)
        return [kind(*sides, ceil_mode=layer.cover_all)]
    if isinstance(layer, Flatten):
        return [nn.Flatten()]
    if not isinstance(layer, Convolution | Layer):
        return []
    W = torch.from_numpy(layer.W.toarray() if layer.is_sparse else layer.W)
    if isinstance(layer, Layer):
        module = nn.Linear(W.shape[1], W.shape[0])
        modules = [nn.Flatten(), module] if len(in_shape) == 3 else [module]
    else:
        size, stride, pad, dilate = layer.window
        module = nn.Conv2d(
            layer.in_channels, len(W), size, stride, pad, dilate, layer.groups
        )
        modules = [module]
    module.weight.data = W.reshape(module.weight.shape).clone()
    module.bias.data.zero_()
    if layer.b is not None:
        module.bias.data[:] = torch.from_numpy(layer.b)
    return modules


if __name__ == "__main__":
    main()
