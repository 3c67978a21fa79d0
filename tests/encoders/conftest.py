"""Captions and pictures for encoders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read once by the hub's client, when it is imported
CAPTIONS = ["a dog runs on the beach", "two cats sleeping in the snow", "a man with a red car", "dog", "a blue car"]


@pytest.fixture
def captions() -> list[str]:
    return list(CAPTIONS)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten small JPEG files of different sizes."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    paths = []
    for number in range(10):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize((180 + 10 * number, 200), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths
