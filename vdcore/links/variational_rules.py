"""The two ways in which recurrent layers and embeddings get their noise."""

from __future__ import annotations

RULES = ("weights", "activations")


def check_rule(operation: str, noise: object) -> None:
    """Raise unless `noise` is one of the rules."""
    if noise not in RULES:
        known = " or ".join(map(repr, RULES))
        message = f"{operation}: `noise` must be {known}, got {noise!r}"
        raise ValueError(message)
