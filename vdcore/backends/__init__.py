"""Source-checkout shim: the adapters live in the top-level ``backends/`` folder."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "backends")]
