"""One training step of the PTB language model: vdcore against torch.

Embedding, two LSTMs and a softmax layer over the words, 650 units each; a window of 35
steps of 20 texts. Interleaved in one process: vdcore's variational step (with the
statistics it reports) and its dense one, and torch's, eager and compiled, each with
Adam as torch runs it by default and with its fused Adam. Before anything is timed, the
variational networks are checked to have the same loss for the same weights.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from _measure import interleave, markdown_table, parse_arguments, report

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "ptb" / "net.py"
WORDS, UNITS, BATCH, STEPS = 10_000, 650, 20, 35
NUM_EXAMPLES = 929_589  # words of the training text
ROUNDS = 5


def main() -> None:
    arguments = parse_arguments(
        __doc__.splitlines()[0],
        lambda parser: parser.add_argument(
            "--no-compile", action="store_true", help="leave torch.compile out"
        ),
    )
    compile_too = not (arguments.quick or arguments.no_compile)
    measure(arguments.threads, arguments.quick, compile_too)


def measure(threads, quick, compile_too):
    import numpy
    import torch
    from _torch_language_model import LanguageModel, training_step

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rng = numpy.random.default_rng(0)
    text = rng.integers(0, WORDS, (STEPS + 1, BATCH)).astype(numpy.int32)
    x, t = text[:-1], text[1:]

    def torch_step(variational, fused=False, compiled=False):
        return training_step(
            LanguageModel(WORDS, UNITS, variational),
            NUM_EXAMPLES,
            torch.from_numpy(x).long(),
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
    if compile_too:
        cases["torch VD compile"] = torch_step(True, compiled=True)
        cases["torch VD compile, fused Adam"] = torch_step(
            True, fused=True, compiled=True
        )
    timings = interleave(cases, 3 if quick else ROUNDS, 0.1)

    ours = timings["vdcore VD"]
    rows = []
    for case, timing in timings.items():
        low, high = (f"{1e3 * bound:.0f}" for bound in timing.quartiles)
        times = [f"{1e3 * timing.median:.0f}", f"{low} - {high}"]
        rows.append([case, *times, f"{timing.ratio(ours):.2f}"])
    header = ["step", "ms", "quartiles", "times vdcore VD"]
    figures = {
        case: {"seconds": timing.rounds, "times_vdcore_vd": timing.ratio(ours)}
        for case, timing in timings.items()
    }
    report(
        "recurrent_step",
        f"One training step, LSTM language model, 2 x {UNITS} units, {WORDS} words, "
        f"batch {BATCH}, {STEPS} steps",
        markdown_table(header, rows),
        figures,
        threads,
        quick,
    )


def vdcore_model(variational):
    spec = importlib.util.spec_from_file_location("ptb_net", EXAMPLE)
    net = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(net)
    if variational:
        return net.RNNForLMVD(WORDS, UNITS, warm_up=0, num_examples=NUM_EXAMPLES)
    return net.RNNForLM(WORDS, UNITS, dropout=0)


def vdcore_step(x, t, variational, masked=False):
    """One step of Adam on the window, as a function of no arguments.

    With `masked`, 99 % of the weights are noise and masks are on, as in the later
    epochs of a training.
    """
    import numpy

    import vdcore
    from vdcore import functions as F

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

    def dense_loss(x, t):
        scores = model(x)
        return F.softmax_cross_entropy(scores.reshape(-1, WORDS), t.reshape(-1))

    def step():
        model.reset_state()
        optimizer.update(model.calc_loss if variational else dense_loss, x, t)

    return step


def check_same_mathematics(x, t):
    """Assert that both libraries' variational objectives agree, noise aside."""
    import numpy
    import torch
    from _torch_language_model import LanguageModel, objective

    import vdcore

    ours = vdcore_model(variational=True)
    theirs = LanguageModel(WORDS, UNITS, variational=True).eval()
    links = [link for _, link in ours.variational_links()]
    layers = theirs.variational_layers()
    for link, layer in zip(links, layers, strict=True):
        for name in ("W", "log_sigma2", "b"):
            parameter = getattr(layer, name)
            if parameter is not None:
                getattr(link, name).array = parameter.detach().numpy().copy()
    sizes = [sum(p.array.size for p in ours.params())]
    sizes.append(sum(p.numel() for p in theirs.parameters()))
    assert sizes[0] == sizes[1], sizes
    with vdcore.using_config("train", False):
        value = float(ours.calc_loss(x, t))
    loss = objective(theirs, NUM_EXAMPLES)
    with torch.no_grad():
        arrays = (torch.from_numpy(array).long() for array in (x, t))
        expected = float(loss(*arrays))
    numpy.testing.assert_allclose(value, expected, rtol=1e-4)


if __name__ == "__main__":
    main()
