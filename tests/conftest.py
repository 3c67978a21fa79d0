"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The research data that stays outside the repository; the test is skipped where it is absent."""
    path = Path(os.environ.get("HASHRET_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("the research data is not here: set HASHRET_DATA to the folder that holds flickr8k/ and wiki/")
    return path
