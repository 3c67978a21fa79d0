"""Disks that go away, files that cannot be read today, files that are too much: nothing is lost, and it goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hashret import Collection
from hashret.data.decode import MAX_PICTURE_BYTES, decode_image
from hashret.errors import DataError
from hashret.indexing import FolderIndex, folder, walk


@pytest.fixture
def during(monkeypatch):
    """Has something happen once, when a picture is looked at that the folder's listing has named."""

    def at(name, happen):
        look, left = walk._behind, [happen]

        def behind(path):
            if path.name == name and left:
                left.pop()()
            return look(path)

        monkeypatch.setattr(walk, "_behind", behind)

    return at


@pytest.fixture
def reads(monkeypatch):
    """Name -> what reading the file raises; root may read everything, so the rights to read cannot be taken away."""
    failing: dict[str, BaseException] = {}
    seen: list[str] = []
    read = Path.read_bytes

    def read_bytes(path):
        seen.append(path.name)
        if path.name in failing:
            raise failing[path.name]
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return failing, seen


@pytest.mark.parametrize("mounted_on", ["nothing", "a folder"])
def test_a_folder_that_goes_away_while_it_is_looked_through_is_kept(photos, indexed, during, mounted_on):
    away = photos.with_name("away")

    def unmount():
        photos.rename(away)
        if mounted_on == "a folder":
            photos.mkdir()

    with FolderIndex.open(photos, indexed) as index:
        during("2.png", unmount)
        with pytest.raises(DataError, match="does not exist" if mounted_on == "nothing" else "went away"):
            index.update(prune=True)
        assert len(index.collection) == 12
        if photos.exists():
            photos.rmdir()
        away.rename(photos)
        assert index.update(prune=True).unchanged == 12


def test_what_goes_between_the_listing_and_the_look_is_kept_until_the_next(photos, indexed, during):
    with FolderIndex.open(photos, indexed) as index:
        during("2.png", (photos / "3.png").unlink)
        changes = index.update(prune=True)
        assert changes.removed == 0 and "3.png" in changes.skipped.names
        assert index.update(prune=True).removed == 1


def test_a_picture_that_cannot_be_read_once_is_tried_again(world, photos, indexed, reads):
    failing, seen = reads
    shutil.copy(world.folder / "20.png", photos / "new.png")
    failing["new.png"] = PermissionError(13, "Permission denied")
    with FolderIndex.open(photos, indexed) as index:
        changes = index.update()
        assert changes.added == 0 and "Permission denied" in changes.skipped.summary()
        failing["new.png"] = MemoryError()
        assert "does not fit into the memory" in index.update().skipped.summary()
        failing.clear()
        assert index.update().added == 1
    assert seen.count("new.png") == 3
    assert seen.count("broken.jpg") == 1  # that will be no picture tomorrow either


def test_a_failure_of_the_system_is_told_from_one_of_the_picture(photos, tmp_path):
    def failure(source):
        with pytest.raises(DataError) as caught:
            decode_image(source)
        return caught.value

    (tmp_path / "half.png").write_bytes((photos / "1.png").read_bytes()[:-60])
    assert folder._may_pass(failure(tmp_path / "gone.png"))
    assert folder._may_pass(failure(tmp_path / ("x" * 300)))
    assert folder._may_pass(MemoryError())
    assert not folder._may_pass(failure(photos / "broken.jpg"))
    assert not folder._may_pass(failure(tmp_path / "half.png"))


def test_a_huge_file_stops_nothing(photos, indexed, reads):
    _, seen = reads
    (photos / "huge.png").touch()
    os.truncate(photos / "huge.png", MAX_PICTURE_BYTES + 1)
    with FolderIndex.open(photos, indexed) as index:
        changes = index.update()
    assert changes.unchanged == 12
    assert "huge.png' has 716 MB, more than the 716 that are read" in changes.skipped.summary()
    assert "huge.png" not in seen


def test_what_waits_is_stored_whatever_ends_an_update(world, photos, indexed, reads):
    failing, _ = reads
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        shutil.copy(world.folder / f"{20 + number}.png", photos / name)
    failing["c.png"] = SystemExit()
    with FolderIndex.open(photos, indexed, batch_size=1) as index, pytest.raises(SystemExit):
        index.update()
    with Collection.open(indexed) as collection:
        assert {"a.png", "b.png"} <= set(collection) and "c.png" not in collection


def test_a_picture_that_is_too_much_for_the_memory_is_left_out_alone(world, photos, indexed, monkeypatch):
    encode = folder._Work._codes

    def codes(work, batch):
        if "b.png" in {entry.found.id for entry in batch}:
            raise MemoryError
        return encode(work, batch)

    monkeypatch.setattr(folder._Work, "_codes", codes)
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        shutil.copy(world.folder / f"{20 + number}.png", photos / name)
    with FolderIndex.open(photos, indexed) as index:
        changes = index.update()
        assert changes.added == 2 and "b.png' does not fit into the memory" in changes.skipped.summary()
        monkeypatch.undo()
        assert index.update().added == 1
