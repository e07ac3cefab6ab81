"""The user's cache of downloads, empty."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user cache, and no VDCORE_DATASET_ROOT."""
    pooch = pytest.importorskip("pooch", reason="needs pooch")
    monkeypatch.delenv("VDCORE_DATASET_ROOT", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    return tmp_path / "vdcore"
