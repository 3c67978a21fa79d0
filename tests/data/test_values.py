"""What no collection can store is refused where file and line are known, and not when a data set has been encoded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hashret.data import load_splits, open_dataset
from hashret.data.readers import read
from hashret.errors import DataError

GOOD = '{"caption": "a"}\n'
HALF, NUL = r"holds half a surrogate pair; give one that is UTF-8", r"holds a NUL character, which cannot be stored"
DIGITS = r"an integer of 5,000 digits, more than the 4,300 that are read; write it as a string$"

BAD_LINES: list[tuple[str, str]] = [
    ('{"caption": "a", "score": NaN}', r"NaN is no JSON value; write null, or leave the key out$"),
    ('{"caption": "NaN", "score": -Infinity}', r"-Infinity is no JSON value"),
    ('{"caption": "say \\"NaN\\"", "score": [{"deep": Infinity}]}', r"Infinity is no JSON value"),
    ('{"caption": NaN}', r"NaN is no JSON value"),
    ('{"caption": "a", "score": 1e999}', r"the metadata 'score' hold inf; write null, or leave the key out"),
    ('{"caption": "a", "score": ' + "7" * 5000 + "}", DIGITS),
    ('{"caption": "a", "id": -' + "7" * 5000 + "}", DIGITS),
    ('{"caption": "a\\ud83d"}', rf"the caption 'a\\ud83d' {HALF}"),
    ('{"caption": "a\\u0000b"}', rf"the caption 'a\\x00b' {NUL}"),
    ('{"caption": "a", "labels": ["\\udc00"]}', rf"the label '\\udc00' {HALF}"),
    ('{"caption": "a", "labels": "\\u0000"}', rf"the label '\\x00' {NUL}"),
    ('{"caption": "a", "split": "\\ud83d"}', rf"the split '\\ud83d' {HALF}"),
    ('{"caption": "a", "id": "\\u0000"}', rf"the id '\\x00' {NUL}"),
    ('{"caption": "a", "\\ud83d": 1}', rf"the key '\\ud83d' {HALF}"),
    ('{"caption": "a", "by": {"x": ["\\u0000"]}}', rf"the metadata 'by' with '\\x00' {NUL}"),
    ('{"caption": "a", "by": [{"\\ud83d": 1}]}', rf"the metadata 'by' with '\\ud83d' {HALF}"),
    ('{"caption": "a", "by": ' + "[" * 101 + "]" * 101 + "}", r"the metadata 'by' are nested deeper than 100"),
]


@pytest.mark.parametrize("line, message", BAD_LINES, ids=[message[:40] for _, message in BAD_LINES])
def test_json_lines_name_the_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(GOOD + line + "\n" + GOOD)
    with pytest.raises(DataError, match=rf"c\.jsonl, line 2: .*{message}"):
        open_dataset(tmp_path / "c.jsonl")


@pytest.mark.parametrize("line, message", BAD_LINES, ids=[message[:40] for _, message in BAD_LINES])
def test_a_list_names_the_line_or_the_entry(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.json").write_text(f"[{GOOD},\n{line}]")
    with pytest.raises(DataError, match=rf"c\.json, (line 3, column \d+|entry 2): .*{message}"):
        open_dataset(tmp_path / "c.json")


def test_the_place_in_a_large_file_is_exact(tmp_path: Path) -> None:
    images = [{"filename": f"{n}.jpg", "sentences": [{"raw": 'Infinity, \\ or NaN"'}], "imgid": n} for n in range(5)]
    images[3]["imgid"] = float("nan")
    text = json.dumps({"images": images}, indent=1)
    line = next(number for number, line in enumerate(text.split("\n"), start=1) if line.endswith(": NaN"))
    (tmp_path / "k.json").write_text(text)
    column = text.split("\n")[line - 1].index("NaN") + 1
    with pytest.raises(DataError, match=rf"k\.json, line {line}, column {column}: NaN is no JSON value"):
        open_dataset(tmp_path / "k.json")
    with pytest.raises(DataError, match=rf"k\.json, line {line}, column {column}: NaN"):
        load_splits(open_dataset(good(tmp_path)), tmp_path / "k.json")


def good(folder: Path) -> Path:
    (folder / "good.jsonl").write_text(GOOD)
    return folder / "good.jsonl"


def test_tables_name_the_line(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"image,caption,by\n,a,b\n,a,b\0\n")
    with pytest.raises(DataError, match=rf"c\.csv, line 3: the metadata 'by' with 'b\\x00' {NUL}"):
        open_dataset(tmp_path / "c.csv")


def test_what_can_be_stored_is_read_as_it_is(tmp_path: Path) -> None:
    whole = {"caption": "NaN 👍 1e999", "a": [None, True, -0.5e-3, {"Infinity": ["NaN", []]}], "b": "9" * 5000, "c": 0}
    deepest: Any = 1
    for _ in range(99):
        deepest = [deepest]
    whole["d"] = deepest
    (tmp_path / "c.jsonl").write_text(json.dumps(whole, ensure_ascii=True))
    (record,) = read(tmp_path / "c.jsonl").records
    assert record.captions == (whole.pop("caption"),)
    assert record.metadata == whole


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"captions": [], "caption": "x"}', ("x",)),
        ('{"captions": null, "caption": "x"}', ("x",)),
        ('{"captions": "", "caption": "x"}', ("x",)),
        ('{"captions": [" "], "caption": "x"}', ("x",)),
        ('{"captions": ["y"], "caption": null}', ("y",)),
        ('{"captions": ["y"], "caption": "x"}', ("y",)),
    ],
)
def test_captions_that_say_nothing_hide_no_caption(tmp_path: Path, content: str, expected: tuple[str, ...]) -> None:
    (tmp_path / "c.jsonl").write_text(content)
    assert open_dataset(tmp_path / "c.jsonl")[0].captions == expected
