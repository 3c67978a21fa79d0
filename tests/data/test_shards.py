"""Tar shards as other programs write them, and their pictures, which are unpacked once whoever else unpacks them."""

from __future__ import annotations

import io
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from PIL import Image, features

from hashret.adapters import write_shards
from hashret.data import Dataset, Record, decode_image, open_dataset
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
    with pytest.raises(DataError, match=r"the id .* holds half a surrogate pair"):
        open_dataset(shard(tmp_path / "odd.tar", [("\udcff.png", picture("red"))]))


@pytest.mark.parametrize("place", ["images/1.png", "captions.jsonl"])
def test_an_archive_beside_pictures_or_captions_does_not_hide_them(tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / place).write_text('{"caption": "a dog"}\n')
    (tmp_path / "images.tar").write_bytes(b"what was downloaded")
    assert detect(tmp_path) == "folder"


def test_what_a_shard_loses_is_named(tmp_path: Path) -> None:
    members = [("a.png", picture("red")), ("b.cls", b"3"), ("c.mp3", b"ID3"), ("d.txt", b" \n"), ("e.json", b"{}")]
    path = shard(tmp_path / "s.tar", [*members, ("f.json", b'{"year": 1999}'), ("README.md", b"of these pictures")])
    dataset = open_dataset(path)
    assert dataset.ids == ("a",)
    assert dataset.skipped.names == tuple(f"{path}, {key}" for key in ("b", "c", "d", "e", "f", "README"))
    reasons = dataset.skipped.reasons
    assert all("neither a picture nor a caption" in reason for reason in reasons)
    assert [reason.rpartition(" has ")[2] for reason in reasons] == [
        "'.cls'", "'.mp3'", "'.txt'", "'.json'", "'year', '.json'", "'.md'",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"s\.tar, b: neither a picture nor a caption.* this one has '\.cls'"):
        open_dataset(path, strict=True)
    with pytest.raises(DataError, match=r"holds no records that can be used; skipped 1: .*this one has '\.mp3'"):
        open_dataset(shard(tmp_path / "t.tar", members[2:3]))


@pytest.mark.parametrize(
    "about, captions",
    [
        ('{"captions": null, "caption": "said"}', ("said",)),
        ('{"captions": [], "caption": "said"}', ("said",)),
        ('{"captions": null}', ("written",)),
        ('{"captions": [], "caption": " "}', ("written",)),
        ('{"captions": ["said"]}', ("said",)),
    ],
)
def test_captions_that_say_nothing_hide_no_others(tmp_path: Path, about: str, captions: tuple[str, ...]) -> None:
    members = [("a.png", picture("red")), ("a.txt", b"written"), ("a.json", about.encode()), ("a.cls", b"3")]
    assert open_dataset(shard(tmp_path / "s.tar", members))[0].captions == captions


@pytest.mark.parametrize("about", ['{"labels": null, "id": null}', '{"labels": [], "id": ""}', "{}"])
def test_keys_that_say_nothing_hide_neither_label_nor_key(tmp_path: Path, about: str) -> None:
    members = [("a.png", picture("red")), ("a.json", about.encode()), ("a.cls", b"3")]
    (record,) = open_dataset(shard(tmp_path / "s.tar", members))
    assert (record.id, record.labels) == ("a", ("3",))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.json", b'{"score": NaN}', r"NaN is no JSON value; write null, or leave the key out"),
        ("a.json", b'{"score": ' + b"1" * 5000 + b"}", r"an integer of 5,000 digits, more than the 4,300"),
        ("a.json", b'{"score": 1e999}', r"the metadata 'score' hold inf"),
        ("a.json", b'{"by": ' + b"[" * 500 + b"]" * 500 + b"}", r"the metadata 'by' are nested deeper than 100"),
        ("a.json", b"[" * 100_000, r"not valid JSON \(nested too deeply\)"),
        ("a.json", b'{"by": "\\ud83d"}', r"the metadata 'by' with '\\ud83d' holds half a surrogate pair"),
        ("a.txt", b"caf\xe9", r"byte 0xe9 is not UTF-8"),
    ],
)
def test_what_cannot_be_stored_is_told_with_its_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"s\.tar, {name}: {message}"):
        open_dataset(shard(tmp_path / "s.tar", [("a.png", picture("red")), (name, content)]))
    with pytest.raises(DataError, match=r"t\.tar, a: the caption 'a\\x00' holds a NUL character"):
        open_dataset(shard(tmp_path / "t.tar", [("a.txt", b"a\0")]))


@pytest.mark.parametrize("suffix, needed", [("avif", "avif"), ("jp2", "jpg_2000"), ("jpe", "jpg"), ("heif", "jpg")])
def test_no_picture_is_lost_on_the_way_into_shards_and_back(tmp_path: Path, suffix: str, needed: str) -> None:
    if not features.check(needed):
        pytest.skip(f"this Pillow was built without {needed}")
    source = tmp_path / f"a.{suffix}"
    Image.new("RGB", (8, 8), "white").save(source, format="PNG" if suffix == "heif" else None)
    write_shards(Dataset("d", (Record("1", ("a white one",), source), Record("2", (), source))), tmp_path / "shards")
    dataset = open_dataset(tmp_path / "shards")
    assert [record.image is not None and decode_image(record.image).getpixel((4, 4)) for record in dataset] == [
        (255, 255, 255)
    ] * 2


def test_threads_that_open_one_shard_get_every_picture(tmp_path: Path) -> None:
    content = picture("red")
    path, begin = shard(tmp_path / "s.tar", [(f"{n}.png", content) for n in range(200)]), Barrier(4)

    def opened(_: int) -> tuple[int, int]:
        begin.wait()
        dataset = open_dataset(path)
        return len(dataset), dataset.skipped.count

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(opened, range(4))) == [(200, 0)] * 4
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.parametrize("what", ["removed", "cut short", "rows"])
def test_pictures_that_are_gone_are_unpacked_again(tmp_path: Path, what: str) -> None:
    path = shard(tmp_path / "s.tar", PICTURES)
    before = open_dataset(path)
    image = before[1].image
    assert image is not None
    if what == "removed":
        image.unlink()
    else:
        os.truncate(image if what == "cut short" else image.with_name("rows.json"), 20)
    after = open_dataset(path)
    assert (after.ids, after.skipped.count, after.fingerprint) == (before.ids, 0, before.fingerprint)
    assert decode_image(image).getpixel((0, 0)) == (0, 255, 0)


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", PICTURES)
    place = open_dataset(path)[0].image
    assert place is not None
    dead, living = (place.parent.with_name(f"{place.parent.name}.{name}.part") for name in ("dead", "living"))
    for part in (dead, living):
        part.mkdir()
        (part / "1.png").write_bytes(b"half")
    os.utime(dead, (time.time() - 100_000,) * 2)
    place.unlink()
    assert len(open_dataset(path)) == 3
    assert (dead.exists(), living.exists()) == (False, True)
