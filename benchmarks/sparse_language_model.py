"""One token at a time through a pruned LSTM language model: vdcore against dense torch.

Interleaved in one process: torch's dense network, eager and as frozen TorchScript, and
the sparse model with SciPy's products and compiled. The networks are that of Lobacheva
et al. (2017), one LSTM of 256 units that is given one-hot words, whose dense form takes
no input product either; the same with an embedding of 256 numbers; and the medium one
of Zaremba et al. (2014), two LSTMs of 650 units. Weights are a random pattern of the
published compression, 22 times; of the first network also one with more of them left
where training leaves more, in the softmax and lateral weights. Or the network is that
of --model, a file that a language model's ``to_cpu_sparse().save(path)`` wrote.
"""

from __future__ import annotations

import os
import warnings

from _measure import interleave, markdown_table, parse_arguments, report

WORDS = 10_000
DENSITY = 1 / 22  # Chirkova, Lobacheva, Vetrov 2018: Penn Treebank, words
TRAINED = {"embed": 0.0142, "l1/lateral": 0.095, "l2": 0.117}  # of such a training
CHECKED = 20  # tokens whose scores are compared


def main() -> None:
    arguments = parse_arguments(__doc__, add_options)
    import numpy

    from vdcore.backends import sparse_backend

    rng = numpy.random.default_rng(0)
    if arguments.model:
        networks = {arguments.name: sparse_backend.load(arguments.model).layers}
        file = f"sparse_language_model_{arguments.name}"
    else:
        file = "sparse_language_model"
        networks = {
            "one-hot, LSTM-256": one_hot(rng),
            "as training leaves it": one_hot(rng, densities=TRAINED),
            "256, LSTM-256": embedded(rng, 256, 1),
            "650, 2 x LSTM-650": embedded(rng, 650, 2),
        }
    rows, figures = [], {}
    for name, layers in networks.items():
        cases = {
            "sparse, SciPy": sparse(layers, arguments.threads, compiled=False),
            "sparse, compiled": sparse(layers, arguments.threads, compiled=True),
        }
        cases = torch_cases(layers, arguments.threads) | cases
        check(cases, rng.integers(0, len(layers[0].W.toarray()), CHECKED))
        rounds, seconds = (3, 0.1) if arguments.quick else (15, 0.3)
        calls = {case: stepping(step) for case, step in cases.items()}
        timings = interleave(calls, rounds, seconds)
        dense = [timing for case, timing in timings.items() if "torch" in case]
        for case, timing in timings.items():
            low, high = (f"{1e6 * bound:.0f}" for bound in timing.quartiles)
            row = [name, case, f"{1e6 * timing.median:.0f}", f"{low} - {high}"]
            row.append(f"{1 / timing.median:,.0f}")
            gain = None
            if dense:
                gain = min(dense, key=lambda timing: timing.median).ratio(timing)
                row.append(f"{gain:.2f}")
            rows.append(row)
            figures[f"{name}, {case}"] = {
                "seconds": timing.rounds,
                "times_faster_than_dense": gain,
                "weights": [sum(getattr(x, k) for x in layers) for k in KINDS],
            }
    head = ["network", "forward", "us a token", "quartiles", "tokens a second"]
    report(
        file,
        "Language models, one token at a time",
        markdown_table([*head, "times faster than dense"][: len(rows[0])], rows),
        figures,
        arguments.threads,
        arguments.quick,
    )


KINDS = ("kept", "size")


def add_options(parser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--model", help="file of a sparse language model of LSTMs")
    parser.add_argument(
        "--name", default="model", help="of that network, in the table and its file"
    )


def random_layer(rng, name, out_size, in_size, density=DENSITY):
    import numpy

    from vdcore.backends.sparse.layer import pruned_layer

    W = rng.standard_normal((out_size, in_size), dtype=numpy.float32) * 0.1
    b = rng.standard_normal(out_size, dtype=numpy.float32) * numpy.float32(0.1)
    return pruned_layer(name, W, rng.random(W.shape) < density, b)


def random_table(rng, size, density=DENSITY):
    from vdcore.backends.sparse_backend import Embedding

    layer = random_layer(rng, "embed", WORDS, size, density)
    return Embedding(layer.name, layer.W)


def lstm(rng, name, upward, units, density=DENSITY):
    from vdcore.backends.sparse_backend import Recurrent

    lateral = random_layer(rng, f"{name}/lateral", 4 * units, units, density)
    return Recurrent(name, "lstm", upward, lateral)


def one_hot(rng, units=256, densities=None):
    """The table of a word's weights, of which the gates are given the sum with h's."""
    densities = densities or dict.fromkeys(TRAINED, DENSITY)
    import numpy

    from vdcore.backends.sparse.layer import pruned_layer

    unit = numpy.eye(4 * units, dtype=numpy.float32)
    upward = pruned_layer("l1/upward", unit, unit > 0, None)
    return [
        random_table(rng, 4 * units, densities["embed"]),
        lstm(rng, "l1", upward, units, densities["l1/lateral"]),
        random_layer(rng, "l2", WORDS, units, densities["l2"]),
    ]


def embedded(rng, units, depth):
    """Embedding, LSTMs and scores, all of one width."""
    layers = [random_table(rng, units)]
    for name in [f"l{k + 1}" for k in range(depth)]:
        upward = random_layer(rng, f"{name}/upward", 4 * units, units)
        layers.append(lstm(rng, name, upward, units))
    return [*layers, random_layer(rng, "scores", WORDS, units)]


def sparse(layers, threads, compiled):
    """A function from one token to its scores."""
    from vdcore.backends.sparse_backend import SparseRecurrentModel

    setting = "1" if compiled else "0"

    def in_setting(function, *arguments, **options):
        os.environ["VDCORE_NUMBA"] = setting
        try:
            return function(*arguments, **options)
        finally:
            os.environ.pop("VDCORE_NUMBA")

    model = in_setting(SparseRecurrentModel, layers, threads=threads)
    in_setting(model.step, [0])  # makes what runs it
    model.reset_state()
    return lambda ids: model.step(ids)[0]


def torch_cases(layers, threads):
    """The same network with all its weights, eager and frozen."""
    try:
        import torch
    except ImportError:
        return {}
    import numpy

    torch.set_num_threads(threads)
    eager = dense_network(layers)
    states = [
        torch.zeros(2, 1, layer.units) for layer in layers if hasattr(layer, "cell")
    ]
    ids = torch.zeros(1, dtype=torch.int64)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(eager, (ids, *states))
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

    def stepping(network):
        state = states

        def step(ids):
            nonlocal state
            with torch.inference_mode():
                scores, *state = network(torch.from_numpy(numpy.asarray(ids)), *state)
                return scores[0].numpy()

        return step

    return {"torch, eager": stepping(eager), "torch, frozen": stepping(frozen)}


def dense_network(layers):
    import torch

    def tensor(W):
        return torch.from_numpy(W if hasattr(W, "strides") else W.toarray())

    def biased(layer):
        b = torch.zeros(layer.W.shape[0]) if layer.b is None else tensor(layer.b)
        return tensor(layer.W), b

    class Cell(torch.nn.Module):
        """LSTM whose input is what it adds to the gates."""

        def __init__(self, layer):
            super().__init__()
            self.lateral = torch.nn.Linear(layer.units, 4 * layer.units)
            W, b = biased(layer.lateral)
            b = b + biased(layer.upward)[1]
            self.lateral.weight.data, self.lateral.bias.data = W, b

        def forward(self, x, h, c):
            i, f, g, o = (x + self.lateral(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c

    class Stacked(torch.nn.Module):
        """torch's own LSTM, of one layer and one step."""

        def __init__(self, layer):
            super().__init__()
            self.lstm = torch.nn.LSTM(layer.upward.W.shape[1], layer.units)
            for child, suffix in ((layer.upward, "ih"), (layer.lateral, "hh")):
                W, b = biased(child)
                getattr(self.lstm, f"weight_{suffix}_l0").data = W
                getattr(self.lstm, f"bias_{suffix}_l0").data = b

        def forward(self, x, h, c):
            y, (_, c) = self.lstm(x[None], (h[None], c[None]))
            return y[0], c[0]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            table, *recurrent, scores = layers
            self.table = torch.nn.Embedding.from_pretrained(tensor(table.W))
            cells = []
            for layer in recurrent:
                is_unit = layer.upward.kept and layer.kept == layer.lateral.kept
                cells.append((Cell if is_unit else Stacked)(layer))
            self.cells = torch.nn.ModuleList(cells)
            self.scores = torch.nn.Linear(*reversed(scores.W.shape))
            self.scores.weight.data, self.scores.bias.data = biased(scores)

        def forward(self, ids, *states):
            x, after = self.table(ids), []
            for cell, state in zip(self.cells, states, strict=True):
                x, c = cell(x, state[0], state[1])
                after.append(torch.stack([x, c]))
            return (self.scores(x), *after)

    return Network().eval()


def check(cases, ids):
    """All answer alike."""
    import numpy

    first, *others = (
        numpy.stack([step(ids[k : k + 1]) for k in range(len(ids))])
        for step in cases.values()
    )
    for other in others:
        numpy.testing.assert_allclose(other, first, atol=1e-4)


def stepping(step):
    """Steps with one token after the other."""
    import numpy

    ids = numpy.random.default_rng(1).integers(0, WORDS, (1000, 1))
    count = 0

    def run():
        nonlocal count
        count = (count + 1) % len(ids)
        return step(ids[count])

    return run


if __name__ == "__main__":
    main()
