"""Tar shards as other programs write them: files in any order."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from hashret.data import decode_image, open_dataset
from hashret.data.readers import detect
from hashret.errors import DataError

COLOURS = ("red", "lime", "blue")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HASHRET_CACHE", str(tmp_path / "cache"))


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "png")
    return file.getvalue()


def shard(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


TEXTS = [(f"{colour}.txt", f"a {colour} one".encode()) for colour in COLOURS]
PICTURES = [(f"{colour}.png", picture(colour)) for colour in COLOURS]


@pytest.mark.parametrize(
    "members",
    [TEXTS + PICTURES, PICTURES + TEXTS, PICTURES[::-1] + TEXTS],
    ids=["texts first", "pictures first", "pictures backwards"],
)
def test_files_of_an_item_may_lie_apart(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    """As tar cf s.tar *.txt *.png writes them."""
    dataset = open_dataset(shard(tmp_path / "s.tar", members))
    assert sorted(dataset.ids) == sorted(COLOURS)
    for record in dataset:
        assert record.captions == (f"a {record.id} one",)
        assert record.image is not None
        assert decode_image(record.image).tobytes() == Image.new("RGB", (8, 6), record.id).tobytes()


def test_two_pictures_of_one_item_are_refused(tmp_path: Path) -> None:
    members = [("a.png", picture("red")), ("a.txt", b"red"), ("a.jpg", picture("blue"))]
    with pytest.raises(DataError, match=r"s\.tar, a\.jpg: the key 'a' has another picture already"):
        open_dataset(shard(tmp_path / "s.tar", members))
    assert not any((tmp_path / "cache").rglob("*.png"))


def test_what_is_no_shard_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.tar").symlink_to(tmp_path / "gone.tar")
    with pytest.raises(DataError, match=r"s\.tar' cannot be read"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="half a surrogate pair"):
        open_dataset(shard(tmp_path / "odd.tar", [("\udcff.png", picture("red"))]))


@pytest.mark.parametrize("place", ["images/1.png", "captions.jsonl"])
def test_an_archive_beside_pictures_or_captions_does_not_hide_them(tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / place).write_text('{"caption": "a dog"}\n')
    (tmp_path / "images.tar").write_bytes(b"what was downloaded")
    assert detect(tmp_path) == "folder"
