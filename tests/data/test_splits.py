"""Splits: drawn by picture with a seed, the same everywhere, saved and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashret.data import Dataset, Record, load_splits, open_dataset, save_splits, split_records
from hashret.errors import DataError


def numbered(count: int) -> Dataset:
    return Dataset("numbers", tuple(Record(str(number), ("a",)) for number in range(count)))


def of(dataset: Dataset) -> dict[str, str | None]:
    return {record.id: record.split for record in dataset}


@given(
    count=st.integers(3, 200),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.98, 0.01, 0.01)]),
    seed=st.integers(0, 5),
)
def test_shares_come_out_as_asked(count: int, shares: tuple[float, ...], seed: int) -> None:
    fractions = dict(zip(("train", "val", "test"), shares))
    splits = split_records(numbered(count), fractions=fractions, seed=seed).splits
    assert sum(splits.values()) == count
    assert splits.keys() == fractions.keys()
    assert all(abs(splits[name] - max(1.0, share * count)) <= 2 for name, share in fractions.items())


def test_the_division_depends_on_ids_and_seed_alone() -> None:
    data = numbered(100)
    first = of(split_records(data, seed=3))
    assert first == of(split_records(data.subset(range(99, -1, -1)), seed=3))
    assert first != of(split_records(data, seed=4))
    test = [name for name, split in of(split_records(numbered(20), seed=0)).items() if split == "test"]
    assert test == ["1", "15"]  # pinned: a change would silently make every stored figure incomparable


def test_records_of_one_picture_stay_together() -> None:
    records = tuple(Record(f"{i}-{j}", ("a",), Path(f"/p/{i}.jpg")) for i in range(40) for j in range(3))
    dataset = split_records(Dataset("d", records), seed=1)
    for i in range(40):
        assert len({record.split for record in dataset if record.id.startswith(f"{i}-")}) == 1


def test_a_picture_under_two_paths_is_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ("{}.jpg", "../{}/{}.jpg".replace("{}", tmp_path.name, 1), "./{}.jpg", str(tmp_path / "x/../{}.jpg"))
    records = tuple(Record(f"{i}-{j}", ("a",), Path(path.format(i))) for i in range(40) for j, path in enumerate(paths))
    dataset = split_records(Dataset("d", records), seed=1)
    for i in range(40):
        assert len({record.split for record in dataset if record.id.startswith(f"{i}-")}) == 1
    save_splits(dataset, tmp_path / "s.json")
    assert of(load_splits(dataset, tmp_path / "s.json")) == of(dataset)
    (tmp_path / "s.json").write_text('{"splits": {"train": ["0-0"], "test": ["0-3"]}}')
    with pytest.raises(DataError, match=r"id '0-3': the picture .* is in the split 'test' here and 'train' in"):
        load_splits(dataset, tmp_path / "s.json")


@given(sizes=st.lists(st.integers(1, 6), min_size=3, max_size=30), seed=st.integers(0, 3))
def test_given_groups_stay_together(sizes: list[int], seed: int) -> None:
    groups = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    dataset = split_records(numbered(len(groups)), seed=seed, groups=groups)
    assert len({(group, record.split) for group, record in zip(groups, dataset)}) == len(sizes)


def test_a_tiny_data_set_still_has_every_split() -> None:
    assert sorted(split_records(numbered(3)).splits) == ["test", "train", "val"]
    assert sum(split_records(numbered(1)).splits.values()) == 1
    assert split_records(numbered(5), fractions={"train": 1.0, "test": 0.0}).splits == {"train": 5}


@pytest.mark.parametrize(
    "fractions, message",
    [
        ({"train": 0.8, "test": 0.3}, r"must add up to 1, and .* add up to 1.1"),
        ({}, r"must add up to 1"),
        ({"train": 1.5, "test": -0.5}, r"'train' must be a number from 0 to 1, and not 1.5"),
        ({"train": float("nan")}, r"'train' must be a number from 0 to 1, and not nan"),
        ({"train": "all"}, r"'train' must be a number from 0 to 1, and not 'all'"),
        ({"train": True}, r"'train' must be a number"),
    ],
)
def test_shares_that_are_none(fractions: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_records(numbered(10), fractions=fractions)


def test_groups_of_another_length() -> None:
    with pytest.raises(DataError, match="2 groups were given for 10 records"):
        split_records(numbered(10), groups=["a", "b"])


def test_splits_are_saved_and_read_back(tmp_path: Path) -> None:
    divided = split_records(numbered(30), seed=5)
    save_splits(divided, tmp_path / "splits.json")
    assert of(load_splits(numbered(30), tmp_path / "splits.json")) == of(divided)
    assert [file.name for file in tmp_path.iterdir()] == ["splits.json"]


def test_open_dataset_divides_only_what_is_undivided(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"caption": "a", "id": i}) + "\n" for i in range(20)))
    divided = open_dataset(path, seed=2)
    assert divided.splits == {"train": 16, "val": 2, "test": 2}
    save_splits(divided, tmp_path / "splits.json")
    assert (
        of(open_dataset(path, seed=9, splits=tmp_path / "splits.json")) == of(divided) != of(open_dataset(path, seed=9))
    )
    path.write_text('{"caption": "a", "split": "train"}\n{"caption": "b"}\n')
    assert open_dataset(path).splits == {"train": 1}


def test_records_that_the_file_does_not_name_are_in_no_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_splits(split_records(numbered(5)), tmp_path / "s.json")
    dataset = load_splits(numbered(7), tmp_path / "s.json")
    assert [record.split for record in dataset][5:] == [None, None]
    assert "2 records of numbers are in none of the splits" in caplog.text


def test_a_file_that_parts_the_records_of_a_picture(tmp_path: Path) -> None:
    dataset = Dataset("d", tuple(Record(name, ("a",), Path("/p/1.jpg")) for name in "abc"))
    path = tmp_path / "s.json"
    path.write_text('{"splits": {"train": ["a"], "test": ["b"]}}')
    with pytest.raises(DataError, match=r"id 'b': the picture '/p/1.jpg' is in the split 'test' here and 'train' in"):
        load_splits(dataset, path)
    path.write_text('{"splits": {"train": ["a", "b"]}}')
    assert of(load_splits(dataset, path)) == {"a": "train", "b": "train", "c": None}


def test_splits_by_other_names(tmp_path: Path) -> None:
    names = {"Train": "train", "TRAIN ": "train", "restval": "train", "Restval": "train", "Validation": "val"}
    names |= {"DEV": "val", "Test": "test", "testing": "test", "Unused": "Unused"}
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"caption": "a", "id": name, "split": name}) + "\n" for name in names))
    assert of(open_dataset(path)) == names
    (tmp_path / "s.json").write_text(json.dumps({"splits": {name: [name] for name in names}}))
    assert of(load_splits(open_dataset(path), tmp_path / "s.json")) == names
    (tmp_path / "c.csv").write_text("id,caption,split\n" + "".join(f"{name},a,{name}\n" for name in names))
    assert of(open_dataset(tmp_path / "c.csv")) == {name.strip(): split for name, split in names.items()}


def test_splits_come_back_as_they_were_saved(tmp_path: Path) -> None:
    dataset = Dataset("d", (Record("1", ("a",), split="Test"), Record("2", ("b",), split="dev")))
    save_splits(dataset, tmp_path / "s.json")
    assert of(load_splits(dataset, tmp_path / "s.json")) == {"1": "Test", "2": "dev"}


@pytest.mark.parametrize("record", [Record("\ud83d", split="test"), Record("1", split="\ud83d")])
def test_splits_that_are_no_text(tmp_path: Path, record: Record) -> None:
    with pytest.raises(DataError, match=r"holds half a surrogate pair; give it as UTF-8"):
        save_splits(Dataset("d", (record,)), tmp_path / "s.json")
    assert not list(tmp_path.iterdir())


def test_split_files_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    with pytest.raises(DataError, match="cannot be read"):
        load_splits(numbered(3), path)
    for content, message in [
        ("{", "not valid JSON"),
        ('{"train": ["0"]}', "is no file of splits"),
        ('{"splits": {"train": [0]}}', "is no file of splits"),
        ('{"splits": {"train": ["0"], "test": ["0"]}}', "names the id '0' twice, in 'train' and 'test'"),
        ('{"splits": {"train": ["0", "x", "y"]}}', r"2 of the 3 ids in .* are not in 'numbers', such as 'x'"),
    ]:
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            load_splits(numbered(3), path)
    save_splits(split_records(numbered(9)), path)
    changed = json.loads(path.read_text())
    changed["splits"]["train"].pop()
    path.write_text(json.dumps(changed))
    with pytest.raises(DataError, match="do not match its checksum"):
        load_splits(numbered(9), path)
