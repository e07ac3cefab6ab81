"""CuPy, on a GPU or emulated."""

from __future__ import annotations

import pytest

from tests.conftest import Library, make_library


@pytest.fixture
def cupy_library() -> Library:
    """CuPy alone: these tests are of its backend."""
    return make_library("cupy")
