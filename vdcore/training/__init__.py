"""The training loop, and what happens around it: updater, triggers, extensions."""

from __future__ import annotations

from vdcore.training import extensions, triggers
from vdcore.training.bptt_updater import BPTTUpdater
from vdcore.training.communicator import Communicator, create_communicator
from vdcore.training.convert import concat_examples
from vdcore.training.extension import (
    PRIORITY_EDITOR,
    PRIORITY_READER,
    PRIORITY_WRITER,
    Extension,
    make_extension,
)
from vdcore.training.parallel_updater import ParallelUpdater
from vdcore.training.trainer import Trainer
from vdcore.training.triggers import get_trigger
from vdcore.training.updater import StandardUpdater

__all__ = [
    "PRIORITY_EDITOR",
    "PRIORITY_READER",
    "PRIORITY_WRITER",
    "BPTTUpdater",
    "Communicator",
    "Extension",
    "ParallelUpdater",
    "StandardUpdater",
    "Trainer",
    "concat_examples",
    "create_communicator",
    "extensions",
    "get_trigger",
    "make_extension",
    "triggers",
]
