"""Let a language model that train_ptb.py has trained write.

    python examples/ptb/sample.py result/ptb/best_model.npz --prime "the company"

The vocabulary is read from vocabulary.json beside the model. Of a variational model the
weights that are noise are left out, and the sparse network runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy
from net import NETWORKS

from vdcore import serializers
from vdcore.backends.sparse_backend import to_cpu_sparse

END_OF_LINE = "<eos>"


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="model.npz or best_model.npz of a run")
    add("-n", "--length", type=int, default=100, help="tokens to write")
    add(
        "--prime",
        default="",
        help="text to go on from, in words or characters as the model has them",
    )
    add(
        "--temperature",
        type=float,
        default=1.0,
        help="of the softmax: below 1 more likely tokens; 0: always the likeliest",
    )
    add("--seed", type=int, default=0, help="of the random numbers")
    args = parser.parse_args()
    if args.length < 1:
        parser.error(f"--length must be at least 1, got {args.length}")
    if not 0 <= args.temperature < math.inf:
        parser.error(
            "--temperature must be a finite number, positive or 0, got "
            f"{args.temperature}"
        )
    return args


class Vocabulary:
    """The tokens of a model, in the order of their ids."""

    def __init__(self, tokens, data):
        self.tokens = tokens
        self.is_words = data == "words"
        self._ids = {token: k for k, token in enumerate(tokens)}

    def encode(self, text):
        """Ids of a text; a new line is a token of its own."""
        lines = text.split("\n")
        ids = []
        for k, line in enumerate(lines):
            for token in line.split() if self.is_words else line:
                ids.append(self.id_of(token))
            if k < len(lines) - 1:
                ids.append(self.id_of(END_OF_LINE))
        return ids

    def id_of(self, token):
        if token in self._ids:
            return self._ids[token]
        kind = "word" if self.is_words else "character"
        remedy = (
            "write <unk> for a word that the model does not know, N for a number, and "
            "small letters"
            if self.is_words and "<unk>" in self._ids
            else "choose others"
        )
        message = (
            f"--prime: {token!r} is no {kind} of the {len(self.tokens):,} that the "
            f"model was trained on; {remedy}"
        )
        raise ValueError(message)

    def decode(self, ids):
        """Text of ids."""
        lines = [[]]
        for token in (self.tokens[k] for k in ids):
            if token == END_OF_LINE:
                lines.append([])
            else:
                lines[-1].append(token)
        blank = " " if self.is_words else ""
        return "\n".join(blank.join(line) for line in lines)


def load(path):
    """A trained model as a sparse one, pruned, and its vocabulary."""
    beside = Path(path).parent / "vocabulary.json"
    is_variational = any(x.endswith("log_sigma2") for x in serializers.read_npz(path))
    if not beside.is_file():
        message = (
            f"{path}: train_ptb.py writes vocabulary.json beside a model, and there is "
            "none; put that of the same run there"
        )
        raise FileNotFoundError(message)
    settings = json.loads(beside.read_text())
    tokens = settings["tokens"]
    network = NETWORKS[settings["recipe"]]
    options = {}
    if is_variational:
        options["variational"] = {
            "loga_threshold": settings["threshold"],
            "multipliers": tuple(settings["multipliers"]),
        }
    kind = network.variational if is_variational else network.plain
    model = kind(len(tokens), settings["units"], **options)
    try:
        serializers.load_npz(path, model)
    except serializers.FileFormatError as error:
        message = f"{path}: is not of the run that wrote {beside}: {error}"
        raise serializers.FileFormatError(message) from error
    return to_cpu_sparse(model), Vocabulary(tokens, settings["data"])


def draw(scores, temperature, rng):
    """One token by its score."""
    if temperature == 0:
        return int(scores.argmax())
    scaled = scores.astype(float) / temperature
    weights = numpy.exp(scaled - scaled.max())
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def sample(model, prime, length, temperature, rng):
    """Ids that go on from those of `prime`."""
    model.reset_state()
    ids = []
    (scores,) = model.predict(numpy.asarray(prime)[:, None])[-1]
    for _ in range(length):
        ids.append(draw(scores, temperature, rng))
        (scores,) = model.step(ids[-1:])
    return ids


def main():
    args = parse_args()
    model, vocabulary = load(args.model)
    prime = vocabulary.encode(args.prime)
    # A text begins after a line has ended.
    start = [vocabulary.id_of(END_OF_LINE), *prime]
    rng = numpy.random.default_rng(args.seed)
    ids = sample(model, start, args.length, args.temperature, rng)
    print(vocabulary.decode([*prime, *ids]))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
