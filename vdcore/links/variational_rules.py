"""What recurrent layers and embeddings can be told: rules of noise, and multipliers."""

from __future__ import annotations

from collections.abc import Sequence

RULES = ("weights", "activations")


def check_rule(operation: str, noise: object) -> None:
    """Raise unless `noise` is one of the rules."""
    if noise not in RULES:
        known = " or ".join(map(repr, RULES))
        message = f"{operation}: `noise` must be {known}, got {noise!r}"
        raise ValueError(message)


def check_multipliers(
    operation: str, multipliers: Sequence[str], kinds: Sequence[str]
) -> None:
    """Raise unless `multipliers` are some of these kinds, each once."""
    is_sequence = isinstance(multipliers, tuple | list)
    if (
        not is_sequence
        or not set(multipliers) <= set(kinds)
        or len(set(multipliers)) < len(multipliers)
    ):
        known = ", ".join(map(repr, kinds))
        message = (
            f"{operation}: `multipliers` must be a tuple of some of {known}, got "
            f"{multipliers!r}"
        )
        raise ValueError(message)
