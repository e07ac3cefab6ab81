"""The training loop, and what happens around it: updater, triggers, extensions."""

from __future__ import annotations

from vdcore.training import extensions, triggers
from vdcore.training.convert import concat_examples
from vdcore.training.extension import (
    PRIORITY_EDITOR,
    PRIORITY_READER,
    PRIORITY_WRITER,
    Extension,
    make_extension,
)
from vdcore.training.trainer import Trainer
from vdcore.training.triggers import get_trigger
from vdcore.training.updater import StandardUpdater

__all__ = [
    "PRIORITY_EDITOR",
    "PRIORITY_READER",
    "PRIORITY_WRITER",
    "Extension",
    "StandardUpdater",
    "Trainer",
    "concat_examples",
    "extensions",
    "get_trigger",
    "make_extension",
    "triggers",
]
