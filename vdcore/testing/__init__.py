"""For tests: a gradient check, and arrays that behave as a GPU library's do."""

from vdcore.testing.array_doubles import (
    StandInArray,
    register_array_api_strict,
    stand_in_namespace,
)
from vdcore.testing.gradient_check import check_gradients

__all__ = [
    "StandInArray",
    "check_gradients",
    "register_array_api_strict",
    "stand_in_namespace",
]
