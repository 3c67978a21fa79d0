"""Data sets: splits, labels, captions and fingerprints."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashret.data import Dataset, Record, Skipped
from hashret.errors import DataError


@pytest.fixture
def pets() -> Dataset:
    return Dataset(
        "pets",
        (
            Record("1", ("a dog", "a brown dog"), split="train", labels=("dog",)),
            Record("2", (), split="test", labels=("cat", "small")),
            Record("3", ("a fish",), split="train"),
            Record("4", ("a bird", "a jay", "blue"), labels=("bird",)),
        ),
    )


def test_splits_are_counted_and_cut(pets: Dataset) -> None:
    assert pets.splits == {"train": 2, "test": 1}
    assert pets.split("train").ids == ("1", "3")
    assert [record.id for record in pets] == ["1", "2", "3", "4"]
    assert pets[3].captions == ("a bird", "a jay", "blue")


def test_an_unknown_split_names_the_nearest(pets: Dataset) -> None:
    with pytest.raises(
        DataError, match=r"'pets' has no split 'tests'; did you mean 'test'\? Known: test, train|train, test"
    ):
        pets.split("tests")


def test_ids_are_distinct() -> None:
    with pytest.raises(DataError, match=r"1 ids occur more than once in 'x', such as 'a'"):
        Dataset("x", (Record("a"), Record("b"), Record("a")))


def test_label_columns_survive_a_split(pets: Dataset) -> None:
    assert pets.label_names == ("bird", "cat", "dog", "small")
    expected = np.array([[0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(pets.label_matrix(), expected)
    assert pets.label_matrix().dtype == bool
    np.testing.assert_array_equal(pets.split("test").label_matrix(), expected[1:2])
    assert Dataset("none", (Record("a"),)).label_matrix().shape == (1, 0)
    with pytest.raises(
        DataError, match="record '1' has the label 'dog', and the vocabulary of 'pets' does not hold it"
    ):
        Dataset("pets", pets.records, vocabulary=("cat", "bird")).label_matrix()


def test_captions_and_their_owners(pets: Dataset) -> None:
    captions, owner = pets.captions_flat()
    assert captions == ["a dog", "a brown dog", "a fish", "a bird", "a jay", "blue"]
    assert owner.tolist() == [0, 0, 2, 3, 3, 3] and owner.dtype == np.int64
    empty, nobody = pets.subset([1]).captions_flat()
    assert (empty, nobody.tolist()) == ([], [])


def test_the_fingerprint_sees_ids_captions_and_pictures_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(file)
    os.utime(file, ns=(0, 1_000))

    def fingerprint(**changed: object) -> str:
        record = Record(**{"id": "a", "captions": ("x",), "image": file, **changed})  # type: ignore[arg-type]
        return Dataset("n", (record,)).fingerprint

    first = fingerprint()
    assert len(first) == 64 and first == fingerprint(split="test", labels=("l",), metadata={"m": 1})
    moved = tmp_path / "moved.png"
    moved.write_bytes(file.read_bytes())
    os.utime(moved, ns=(0, 1_000))
    assert fingerprint(image=moved) == first
    others = {
        fingerprint(id="b"),
        fingerprint(captions=("y",)),
        fingerprint(captions=("x", "")),
        fingerprint(image=None),
    }
    os.utime(file, ns=(0, 2_000))
    others |= {fingerprint(), fingerprint(image=tmp_path / "gone.png")}
    assert first not in others and len(others) == 6


def test_data_sets_travel_between_processes(pets: Dataset) -> None:
    assert pickle.loads(pickle.dumps(pets)) == pets


def test_the_summary_of_many_is_short() -> None:
    names = tuple(f"p{number}" for number in range(9))
    text = (Skipped(names, names) + Skipped(("q",), ("q",))).summary(show=2)
    assert text == "skipped 10: p0; p1; and 8 more"
    assert str(Skipped(("p",), ("p is gone",))) == "skipped 1: p is gone"


def test_data_loads_neither_torch_nor_pillow_before_it_needs_them() -> None:
    code = "import sys, hashret.data; print([m for m in ('torch', 'PIL', 'emoji', 'timm') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
