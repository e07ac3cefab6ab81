"""Of what precision the products of float32 arrays are."""

from __future__ import annotations

from vdcore.configuration import config


def allows_tf32() -> bool:
    """Whether products may round their operands to 10 bits of mantissa (TF32).

    What ``config.tf32`` says: by default they may not, neither those of matrices nor
    convolutions.
    """
    return config.tf32
