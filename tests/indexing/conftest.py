"""A folder of pictures, and the collection that follows it."""

from __future__ import annotations

import shutil

import pytest

from hashret.indexing import FolderIndex


@pytest.fixture
def photos(world, tmp_path):
    """Twelve pictures in two folders, and much else."""
    root = tmp_path / "photos"
    (root / "trips" / "2019").mkdir(parents=True)
    for number in range(12):
        place = root if number < 6 else root / "trips" / "2019"
        shutil.copy(world.folder / f"{number}.png", place)
    (root / "notes.txt").write_text("no picture")
    (root / "film.mp4").write_bytes(b"none either")
    (root / ".hidden").mkdir()
    shutil.copy(world.folder / "20.png", root / ".hidden")
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return root


@pytest.fixture
def indexed(world, photos, tmp_path):
    out = tmp_path / "photos.hashret"
    with FolderIndex.open(photos, out, model=world.model) as index:
        index.update()
    return out
