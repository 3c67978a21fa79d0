"""Folders of pictures: what counts as one, and what of a folder cannot be seen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from hashret.data import decode_image, open_dataset
from hashret.data.readers.folder import PICTURES
from hashret.errors import DataError

Image.init()
WRITTEN = sorted(suffix for suffix, format in Image.registered_extensions().items() if format in Image.SAVE)


@pytest.mark.parametrize("suffix", sorted(PICTURES & set(WRITTEN)))
def test_every_kind_of_picture_is_found_and_read(tmp_path: Path, suffix: str) -> None:
    colours = "1" if suffix == ".pbm" else "RGB"
    Image.new(colours, (32, 32), "white").save(tmp_path / f"a{suffix.upper()}")
    (record,) = open_dataset(tmp_path)
    assert record.image is not None
    assert decode_image(record.image).getpixel((16, 16)) == (255, 255, 255)


def test_the_kinds_that_pillow_reads_without_help() -> None:
    assert {".heic", ".avif", ".jp2", ".j2k", ".webp", ".jpe", ".psd"} <= PICTURES
    assert not {".svg", ".eps", ".pdf", ".mp4", ".txt"} & PICTURES


@pytest.fixture
def beyond(tmp_path: Path) -> Iterator[Path]:
    """A folder with a picture, and so many folders inside each other that the system takes no path of the last ones.

    They cannot be listed, as a folder without rights cannot be, and root is told so too.
    """
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    opened = [os.open(tmp_path, os.O_RDONLY)]
    try:
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=opened[-1])
            opened.append(os.open("d" * 250, os.O_RDONLY, dir_fd=opened[-1]))
        yield tmp_path
    finally:
        while len(opened) > 1:
            os.close(opened.pop())
            with contextlib.suppress(OSError):
                os.rmdir("d" * 250, dir_fd=opened[-1])
        os.close(opened[0])


def test_a_sub_folder_that_cannot_be_listed_is_named(beyond: Path) -> None:
    dataset = open_dataset(beyond)
    assert dataset.ids == ("a.png",)
    assert dataset.skipped.count == 1
    assert dataset.skipped.names[0].startswith("ddd") and dataset.skipped.names[0].endswith("ddd/")
    assert "ddd' cannot be read: File name too long; give rights to it, or move it away" in dataset.skipped.reasons[0]
    with pytest.raises(DataError, match=r"the folder '.*ddd' cannot be read"):
        open_dataset(beyond, strict=True)
    (beyond / "a.png").unlink()
    with pytest.raises(DataError, match=r"there are no pictures in .* skipped 1: the folder '.*ddd' cannot be read"):
        open_dataset(beyond)


def test_a_folder_without_rights(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everywhere")
    (tmp_path / "closed").mkdir()
    for name in ("a.png", "closed/b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "closed").chmod(0)
    try:
        assert open_dataset(tmp_path).skipped.names == ("closed/",)
        with pytest.raises(DataError, match=r"closed' cannot be read: Permission denied"):
            open_dataset(tmp_path, strict=True)
        with pytest.raises(DataError, match=r"closed' cannot be read: Permission denied"):
            open_dataset(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_picture_is_one_by_whatever_path_its_table_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "captions.jsonl").write_text(f'{{"image": "{tmp_path}/a.png", "caption": "x", "split": "train"}}\n')
    monkeypatch.chdir(tmp_path)
    assert [record.id for record in open_dataset(".")] == [f"{tmp_path}/a.png", "b.png"]
