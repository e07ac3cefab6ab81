"""Perplexity of a language model, from the losses in a log."""

from __future__ import annotations

import math
from typing import Any


def compute_perplexity(entry: dict[str, Any]) -> None:
    """Put perplexities into an entry of a log: the `postprocess` of a LogReport.

    ``perplexity`` is ``exp`` of the mean cross-entropy in training (``main/class`` of a
    model with a KL term, otherwise ``main/loss``), in nats per token, and
    ``val_perplexity`` that of the validation, where there was one. It is the number of
    tokens that a model which spread its probability evenly would hesitate between.

    Examples
    --------
    >>> entry = {"main/loss": 4.0, "main/class": math.log(50)}
    >>> compute_perplexity(entry)
    >>> round(entry["perplexity"], 6)
    50.0
    """
    names = {"perplexity": "main", "val_perplexity": "validation/main"}
    for name, prefix in names.items():
        for key in (f"{prefix}/class", f"{prefix}/loss"):
            if key in entry:
                entry[name] = perplexity(entry[key])
                break


def perplexity(cross_entropy: float) -> float:
    """``exp(cross_entropy)``; infinite where that is too large for a number."""
    try:
        return math.exp(cross_entropy)
    except OverflowError:
        return math.inf
