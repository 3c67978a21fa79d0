"""A collection from a data set: whole or not at all, whoever else makes one at the same place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hashret import Collection
from hashret.data import Dataset, Record
from hashret.errors import DataError, StorageError
from hashret.indexing import index_dataset

DATA = Dataset("birds", tuple(Record(id=f"b{n}", captions=(f"bird {n}",)) for n in range(5)))


class Model:
    """Gives codes of ones, and does something else meanwhile."""

    n_bits, fingerprint = 16, "f" * 64

    def __init__(self, meanwhile=lambda: None):
        self.meanwhile = meanwhile

    def encode(self, modality, items, **options):
        self.meanwhile()
        return np.full((len(items), 2), 255, np.uint8)


def index(out: Path, meanwhile=lambda: None) -> list[object]:
    with index_dataset(Model(meanwhile), DATA, out, modality="text") as collection:
        return list(collection)


def test_two_runs_at_once_do_not_destroy_each_other(tmp_path):
    out, stored = tmp_path / "x.hashret", []
    with pytest.raises(StorageError, match=r"x\.hashret' cannot be made .*another directory"):
        index(out, lambda: stored.append(index(out)))
    assert stored == [[f"b{n}#0" for n in range(5)]]
    with Collection.open(out) as collection:
        assert collection.verify().count == 5
    assert [path.name for path in tmp_path.iterdir()] == ["x.hashret"]


def test_a_directory_of_the_user_stays(tmp_path):
    mine = tmp_path / "x.hashret.part" / "photo.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    index(tmp_path / "x.hashret")
    assert mine.read_bytes() == b"mine"


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    living, dead, foreign = (tmp_path / f".x.hashret.{number}.part" for number in ("00000001", "00000002", "00000003"))
    Collection.create(dead, n_bits=16).close()
    foreign.mkdir()
    with Collection.create(living, n_bits=16) as collection:
        index(tmp_path / "x.hashret")
        collection.add(np.zeros((1, 2), np.uint8))
        assert collection.verify().count == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, foreign.name, "x.hashret"]


def test_pictures_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Dataset("birds", (Record(id="b", image=Path("photos/../b.png")),))
    with index_dataset(Model(), data, "x.hashret") as collection:
        assert collection.get(["b"]).metadata[0]["image"] == str(tmp_path / "b.png")


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(tmp_path / "x.hashret", fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "odd, message",
    [
        (
            Record("odd", ("a",), metadata={"score": float("nan")}),
            "cannot be stored as JSON: Out of range",
        ),
        (Record("odd", ("a",), metadata={"score": np.float32("inf")}), "cannot be stored as JSON: Out of"),
        (Record("odd", ("a",), metadata={"by": {1: 2}}), "must have keys of type str, and has 1 within"),
        (
            Record("odd", ("a",), metadata={"by": object()}),
            "cannot be stored as JSON: a object is no JSON",
        ),
        (Record("odd", ("a\0",)), "holds a NUL character, which cannot be stored; leave it out"),
        (Record("odd", ("a",), labels=("\ud83d",)), "holds half a surrogate pair"),
        (Record("odd", ("a",), split="\ud83d"), "holds half a surrogate pair"),
    ],
)
def test_what_cannot_be_stored_is_told_before_anything_is_encoded(tmp_path, odd, message):
    many = tuple(Record(f"b{n}", (f"bird {n}",)) for n in range(1500))  # more than are stored at a time
    with pytest.raises(DataError, match=f"nothing was encoded: the metadata of 'odd#0' {message}"):
        index_dataset(
            Model(lambda: pytest.fail("encoded")), Dataset("b", (*many, odd)), tmp_path / "x", modality="text"
        )
    assert not list(tmp_path.iterdir())


def test_an_id_that_cannot_be_stored_is_told(tmp_path):
    for id in ("b\0", "\ud83d"):
        with pytest.raises(DataError, match=r"nothing was encoded: the id '.*' holds "):
            index_dataset(Model(), Dataset("b", (Record(id, ("a",)),)), tmp_path / "x", modality="text")
