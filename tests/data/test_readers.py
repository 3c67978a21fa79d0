"""Caption files and folders become records; what is wrong in them is named by file and line."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hashret.data import Dataset, open_dataset
from hashret.data.readers import detect, read
from hashret.errors import DataError


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), "red").save(file)


def lines(path: Path, *entries: Any) -> Path:
    path.write_text("\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "\n", encoding="utf-8")
    return path


def captions(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {record.id: record.captions for record in dataset}


# --- JSON lines ---------------------------------------------------------------------------------------------------


def test_json_lines_keep_everything_that_a_line_says(tmp_path: Path) -> None:
    pictures(tmp_path, "images/1.png", "images/2.png")
    path = lines(
        tmp_path / "captions.jsonl",
        {
            "id": 7,
            "image": "images/1.png",
            "captions": ["a dog", "ein Hund"],
            "split": "train",
            "labels": ["pet", 3],
            "year": 2020,
        },
        {"image": "images/2.png", "caption": "a cat", "split": "validation"},
        {"captions": ["words only"], "split": "test"},
    )
    first, second, third = open_dataset(path)
    assert (first.id, first.captions, first.split, first.labels) == ("7", ("a dog", "ein Hund"), "train", ("pet", "3"))
    assert first.image == tmp_path / "images/1.png"
    assert first.metadata == {"year": 2020}
    assert (second.id, second.captions, second.split, second.labels) == ("images/2.png", ("a cat",), "val", ())
    assert (third.id, third.image) == ("line 3", None)


def test_lines_of_one_picture_are_one_record(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png")
    path = lines(
        tmp_path / "c.jsonl",
        {"image": "1.png", "caption": "a", "labels": "x"},
        {"image": "2.png", "caption": "b"},
        {"image": "1.png", "caption": "c", "labels": ["y", "x"]},
    )
    dataset = open_dataset(path)
    assert captions(dataset) == {"1.png": ("a", "c"), "2.png": ("b",)}
    assert dataset[0].labels == ("x", "y")


def test_two_records_may_share_a_picture_within_a_split(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    shared = [{"image": "1.png", "id": name, "split": "train"} for name in "ab"]
    words = [{"caption": "a", "id": f"{split} words", "split": split} for split in ("train", "test")]
    path = lines(tmp_path / "c.jsonl", *shared, {"image": "1.png", "id": "c"}, *words)  # c is in no split
    assert open_dataset(path).splits == {"train": 3, "test": 1}


def test_a_list_of_records_in_one_json_file(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    path = tmp_path / "records.json"
    path.write_text(json.dumps([{"image": "1.png", "captions": ["a"]}], indent=1))
    assert captions(open_dataset(path)) == {"1.png": ("a",)}


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"image": "1.png", "caption": "a"}\r\n\r\n')
    assert captions(open_dataset(path)) == {"1.png": ("a",)}


def test_images_root_moves_the_pictures(tmp_path: Path) -> None:
    pictures(tmp_path, "far/1.png")
    path = lines(tmp_path / "c.jsonl", {"image": "1.png", "caption": "a"})
    assert open_dataset(path, images_root=tmp_path / "far")[0].image == tmp_path / "far/1.png"


words = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30).map(str.strip).filter(bool)
records = st.lists(
    st.tuples(st.lists(words, min_size=1, max_size=4), st.sampled_from([None, "train", "val", "test"])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=records, labels=st.lists(words, max_size=3, unique=True))
def test_json_lines_round_trip(tmp_path: Path, content: Any, labels: list[str]) -> None:
    entries = [{"id": str(i), "captions": c, "split": s, "labels": labels} for i, (c, s) in enumerate(content)]
    got = read(lines(tmp_path / "r.jsonl", *entries)).records
    assert [(r.id, list(r.captions), r.split, list(r.labels)) for r in got] == [
        (e["id"], e["captions"], e["split"], e["labels"]) for e in entries
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=records, delimiter=st.sampled_from(",;\t|"))
def test_csv_round_trip(tmp_path: Path, content: Any, delimiter: str) -> None:
    path = tmp_path / "r.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "caption", "split"])
        for number, (texts, split) in enumerate(content):
            writer.writerows([number, text, split or ""] for text in texts)
    got = read(path).records
    assert [(list(r.captions), r.split) for r in got] == [(texts, split) for texts, split in content]


# --- CSV and pairs ------------------------------------------------------------------------------------------------


def test_csv_rows_of_one_picture_are_merged(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png")
    path = tmp_path / "c.csv"
    path.write_text(
        'image,caption,split,labels,photographer\n1.png,"a dog, running",train,animal; outdoors,Ann\n'
        '1.png,"a ""good""\ndog",train,,Ann\n2.png,a cat,test,animal,Bob\n'
    )
    first, second = open_dataset(path)
    assert first.captions == ("a dog, running", 'a "good"\ndog')
    assert first.labels == ("animal", "outdoors")
    assert first.metadata == {"photographer": "Ann"}
    assert (second.captions, second.split) == (("a cat",), "test")


def test_csv_without_captions_still_names_pictures(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    path = tmp_path / "c.csv"
    path.write_text("image,labels\n1.png,red\n")
    assert (open_dataset(path)[0].captions, open_dataset(path)[0].labels) == ((), ("red",))


@pytest.mark.parametrize("name", ["Flickr8k.token", "captions.txt"])
def test_flickr_token_lines(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, "1.jpg", "a#b.jpg")
    path = tmp_path / name
    path.write_text("1.jpg#0\tA dog .\n1.jpg#1\tA brown dog .\na#b.jpg\tA cat .\n")
    assert captions(open_dataset(path)) == {"1.jpg": ("A dog .", "A brown dog ."), "a#b.jpg": ("A cat .",)}


# --- Karpathy -----------------------------------------------------------------------------------------------------


def karpathy(path: Path, *images: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"dataset": "x", "images": list(images)}))
    return path


def test_karpathy_with_restval_and_a_varying_number_of_captions(tmp_path: Path) -> None:
    pictures(tmp_path, "val2014/1.jpg", "2.jpg")
    path = karpathy(
        tmp_path / "dataset_coco.json",
        {
            "filepath": "val2014",
            "filename": "1.jpg",
            "split": "restval",
            "cocoid": 5,
            "sentences": [{"raw": "a"}, {"raw": "b"}, {"raw": "c"}],
        },
        {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "d"}]},
    )
    first, second = open_dataset(path)
    assert (first.id, first.split, first.captions) == ("val2014/1.jpg", "train", ("a", "b", "c"))
    assert first.metadata == {"cocoid": 5}
    assert (second.split, second.captions) == ("test", ("d",))


def test_karpathy_finds_pictures_in_the_folder_images(tmp_path: Path) -> None:
    pictures(tmp_path, "images/1.jpg")
    path = karpathy(tmp_path / "d.json", {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "a"}]})
    assert open_dataset(path)[0].image == tmp_path / "images/1.jpg"


# --- folders ------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_without_captions(tmp_path: Path) -> None:
    pictures(tmp_path, "b.png", "a.jpg", "deep/c.webp", ".hidden/d.png", ".e.png")
    (tmp_path / "notes.md").write_text("no picture")
    dataset = open_dataset(tmp_path)
    assert captions(dataset) == {"a.jpg": (), "b.png": (), "deep/c.webp": ()}
    assert dataset.name == tmp_path.name


def test_text_files_beside_the_pictures_are_their_captions(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("one\n\n  two \n")
    (tmp_path / "b.png.txt").write_text("three")
    assert captions(open_dataset(tmp_path)) == {"a.jpg": ("one", "two"), "b.png": ("three",), "c.png": ()}


@pytest.mark.parametrize(
    "name, content",
    [
        ("captions.jsonl", '{"image": "b.png", "caption": "x"}\n'),
        ("captions.json", '[{"image": "b.png", "caption": "x"}]'),
        ("captions.csv", "image,caption\nb.png,x\n"),
        ("captions.txt", "b.png\tx\n"),
        ("captions.txt", "image,caption\nb.png,x\n"),
    ],
)
def test_a_table_in_the_folder_gives_captions_and_loses_no_picture(tmp_path: Path, name: str, content: str) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / name).write_text(content)
    assert captions(open_dataset(tmp_path)) == {"b.png": ("x",), "a.png": ()}


def test_a_name_that_is_no_text_is_left_out_and_named(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    shutil.copy(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff.png")
    dataset = open_dataset(tmp_path)
    assert dataset.ids == ("a.png",)
    assert "udcff.png' is not UTF-8; rename it" in dataset.skipped.summary()
    with pytest.raises(DataError, match=r"udcff.png' is not UTF-8"):
        open_dataset(tmp_path, strict=True)


def test_a_picture_with_the_longest_name_has_no_captions_beside_it(tmp_path: Path) -> None:
    name = "a" * 251 + ".png"
    pictures(tmp_path, name)
    assert captions(open_dataset(tmp_path)) == {name: ()}


# --- what is left out ---------------------------------------------------------------------------------------------


def test_missing_pictures_and_empty_captions_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures(tmp_path, "1.png", "2.png")
    path = lines(
        tmp_path / "c.jsonl",
        {"image": "1.png", "captions": ["a", "  "]},
        {"image": "gone.png", "captions": ["b"]},
        {"image": "2.png", "captions": []},
        {"image": "a" * 300 + ".png", "captions": ["a name that no system takes"]},
    )
    dataset = open_dataset(path)
    assert captions(dataset) == {"1.png": ("a",), "2.png": ()}
    assert dataset.skipped.count == 3
    assert "gone.png" in dataset.skipped.summary() and "line 1: empty caption" in dataset.skipped.summary()
    assert "skipped 3" in caplog.text


def test_rows_without_a_picture_or_words_are_left_out_and_named(tmp_path: Path) -> None:
    dataset = open_dataset(lines(tmp_path / "c.jsonl", {"caption": " "}, {"caption": "a"}, {"file": "1.png"}))
    assert captions(dataset) == {"line 2": ("a",)}
    assert dataset.skipped.count == 2
    assert "line 1: empty caption; " in dataset.skipped.summary()
    assert "line 3: neither a picture nor a caption" in dataset.skipped.summary()


# --- bad input ----------------------------------------------------------------------------------------------------

BAD_FILES = [
    ("c.jsonl", b'{"image": "1.png"}\n{"image": \n', r"c.jsonl, line 2: .*not valid JSON.*one JSON object"),
    ("c.jsonl", b'{"image": "1.png"}\n["a"]\n', r"line 2: a record is an object"),
    ("c.jsonl", b'{"image": 3}\n', r"line 1: 'image' must be the path of a picture, and not 3"),
    ("c.jsonl", b'{"image": "a\\u0000.png"}\n', r"line 1: 'image' must be the path"),
    ("c.jsonl", b'{"image": "1.png", "captions": {"en": "a"}}\n', r"line 1: 'captions' must be a list of strings"),
    ("c.jsonl", b'{"image": "1.png", "captions": ["a", 3]}\n', r"line 1: 'captions' must hold strings, and not 3"),
    ("c.jsonl", b'{"image": "1.png", "split": 1}\n', r"line 1: 'split' must be a string"),
    ("c.jsonl", b'{"image": "1.png", "labels": [1.5]}\n', r"'labels' must hold strings, and not 1.5"),
    ("c.jsonl", b'{"image": "1.png", "id": [1]}\n', r"'id' must be a string or an integer"),
    ("c.jsonl", b'{"image": "1.png", "id": "\\ud83d"}\n', r"line 1: the id .* holds half a surrogate pair"),
    (
        "c.jsonl",
        b'{"split": "train"}\n',
        r"line 1: neither a picture nor a caption; a record needs 'image' or 'caption'$",
    ),
    ("c.jsonl", b'{"file": "1.png", "text": "a"}\n', r"needs 'image' or 'caption', and this one has 'file', 'text'"),
    ("c.parquet", b"PAR1\xff\xfe", r"the format of .*c.parquet' cannot be told.*a name that ends in .jsonl or .csv"),
    ("c.txt", b"caf\xe9", r"c.txt, line 1: byte 0xe9 is not UTF-8"),
    ("c.jpg", b"\xff\xd8", r"c.jpg' is a picture; give the folder"),
    (
        "c.jsonl",
        b'{"image": "1.png", "id": "a"}\n{"image": "2.png", "id": "a"}\n',
        r"line 2: the id 'a' was given to another picture in .*line 1",
    ),
    (
        "c.jsonl",
        b'{"image": "1.png", "split": "train"}\n{"image": "1.png", "split": "test"}\n',
        r"line 2: '1.png' is in the split 'test' here and 'train' in",
    ),
    (
        "c.jsonl",
        b'{"image": "1.png", "id": "a", "split": "train"}\n{"image": "x/../1.png", "id": "b", "split": "test"}\n',
        r"line 2: the picture '.*1.png' is in the split 'test' here and 'train' in .*line 1; a picture belongs to one",
    ),
    ("c.jsonl", '{"caption": "a"}\n{"caption": "caf\xe9"}\n'.encode("latin-1"), r"line 2: byte 0xe9 is not UTF-8"),
    ("c.jsonl", b"", r"holds no records"),
    ("c.jsonl", b"[" * 100_000 + b"\n", r"line 1: .*nested too deeply"),
    ("c.json", b"{", r"c.json, line 1, column 2: not valid JSON"),
    ("c.json", b'{"a": 1}', r"neither Karpathy's JSON .* nor a list of records"),
    ("c.json", b'{"images": [], "annotations": []}', r"looks like COCO's annotation format"),
    ("c.json", b'{"images": []}', r"holds no records"),
    ("c.json", b'{"images": [{"split": "train"}]}', r"images\[0\]: an entry needs 'filename'"),
    ("c.json", b'{"images": [{"filename": "1.png", "sentences": ["a"]}]}', r"images\[0\]: 'sentences' must be a list"),
    ("c.json", b'{"images": [{"filename": "1.png", "sentences": [{"raw": 3}]}]}', r"images\[0\]: 'captions' must hold"),
    ("c.csv", b"imgae,text\n1.png,a\n", r"names neither 'image' nor 'caption'; did you mean 'image'\?"),
    ("c.csv", b"1.png,a\n", r"names neither 'image' nor 'caption'"),
    ("c.csv", b"image,caption,image\n", r"names the column 'image' twice"),
    ("c.csv", b"image,caption\n1.png,a\n1.png,a dog, running\n", r"line 3: 3 values for the 2 columns.*double quotes"),
    ("c.csv", b"image,caption\n1.png\n", r"line 2: 1 values for the 2 columns"),
    ("c.csv", b"image,caption\n", r"holds no records"),
    ("c.token", b"1.png#0\ta\n1.png a\n", r"line 2: no tab between picture and caption"),
    ("c.xyz", b"hello\n", r"the format of .*c.xyz' cannot be told"),
    ("c.jsonl", b'{"image": "gone.png"}\n', r"holds no records that can be used; skipped 1: there is no picture"),
]


@pytest.mark.parametrize("name, content, message", BAD_FILES)
def test_a_bad_file_is_refused_with_a_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    pictures(tmp_path, "1.png", "2.png")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / name)


def test_strict_refuses_what_would_be_left_out(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    gone = lines(tmp_path / "gone.jsonl", {"image": "1.png"}, {"image": "gone.png"})
    with pytest.raises(
        DataError, match=r"1 of 2 pictures are missing: '.*gone.png'; check the paths, which are taken from '"
    ):
        open_dataset(gone, strict=True)
    empty = lines(tmp_path / "empty.jsonl", {"image": "1.png", "captions": ["a", ""]})
    with pytest.raises(DataError, match=r"line 1: the caption is empty"):
        open_dataset(empty, strict=True)
    with pytest.raises(DataError, match=r"line 2: neither a picture nor a caption.* this one has 'file'"):
        open_dataset(lines(tmp_path / "neither.jsonl", {"caption": "a"}, {"file": "1.png"}), strict=True)


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no data '.*nowhere'.*built-in name \(emoji\)"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"cannot be read: File name too long"):
        open_dataset(tmp_path / ("x" * 300))
    with pytest.raises(DataError, match=r"there are no pictures in"):
        open_dataset(tmp_path)
    path = lines(tmp_path / "c.jsonl", {"caption": "a"})
    with pytest.raises(DataError, match=r"images_root '.*none' is no folder"):
        open_dataset(path, images_root=tmp_path / "none")
    with pytest.raises(DataError, match=r"images_root '.*xxx' is no folder"):
        open_dataset(path, images_root=tmp_path / ("x" * 300))
    with pytest.raises(ValueError, match=r"there is no reader 'jsonls'; did you mean 'jsonl'\?"):
        open_dataset(path, format="jsonls")


def test_a_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text('{"caption": "a"}\n')
    assert detect(path) == "jsonl"
    assert captions(open_dataset(path, format="jsonl")) == {"line 1": ("a",)}


def test_a_folder_that_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path, format="jsonl")


# --- the real thing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, unused", [("captions.jsonl", 91), ("dataset_flickr8k.json", 0)])
def test_flickr8k(shared_data: Path, name: str, unused: int) -> None:
    dataset = open_dataset(shared_data / "flickr8k" / name, strict=True)
    expected = {"train": 6000, "val": 1000, "test": 1000} | ({"unused": unused} if unused else {})
    assert dataset.splits == expected
    assert all(len(record.captions) == 5 for record in dataset)
    texts, owner = dataset.split("test").captions_flat()
    assert len(texts) == len(owner) == 5000
