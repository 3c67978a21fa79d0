"""Where a row of a table ends, and a value: line ends, quotes, and quotes that are never closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashret.data.readers import read
from hashret.errors import DataError


@pytest.mark.parametrize("later", ["a cat", '"a cat, sitting"'])
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path, later: str) -> None:
    path = tmp_path / "c.csv"
    rows = [f",{later}" for _ in range(36)]
    path.write_text("\n".join(["image,caption", ",a bird", ',"a dog', *rows]) + "\n")
    with pytest.raises(DataError, match=r"c.csv, line 3: not valid CSV .* read up to line \d+\); a value that begins"):
        read(path)


def test_quotes_that_csv_allows(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('image, caption\n,"a ""quoted"" cat"\n, "two\n\nlines"\n,a 5" pipe\n,""\n,"""first"" word"\n')
    found = [record.captions[0] for record in read(path).records]
    assert found == ['a "quoted" cat', "two\n\nlines", 'a 5" pipe', '"first" word']


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_what_is_no_line_end_to_a_table_ends_no_line(tmp_path: Path, mark: str) -> None:
    (tmp_path / "c.csv").write_text(f"image,caption\r\n,a{mark}dog\r\n,b\r\n,c,d\r\n", encoding="utf-8", newline="")
    with pytest.raises(DataError, match="line 4: 3 values"):
        read(tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text(f"image,caption\n,a{mark}dog\n,b\n", encoding="utf-8")
    (tmp_path / "c.json").write_text(f'{{"caption": "a{mark}dog"}}\n{{"caption": "b"}}\n', encoding="utf-8")
    for name in ["c.csv"] + ["c.json"] * (mark > "\x1f"):  # JSON has no control characters
        assert [record.captions for record in read(tmp_path / name).records] == [(f"a{mark}dog",), ("b",)]


@pytest.mark.parametrize("header", ["image,captions", "Image,Captions,split", "captions"])
def test_a_column_of_captions_is_not_taken_for_metadata(tmp_path: Path, header: str) -> None:
    (tmp_path / "c.csv").write_text(f"{header}\n{',' * header.count(',')}\n")
    with pytest.raises(
        DataError, match=r"names the column 'captions', and a row holds one: call it 'caption', and give"
    ):
        read(tmp_path / "c.csv")


def test_captions_beside_a_caption_are_metadata(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("caption,captions\na dog,5\n")
    (record,) = read(tmp_path / "c.csv").records
    assert (record.captions, record.metadata) == (("a dog",), {"captions": "5"})


def test_a_value_may_be_long_and_has_an_end(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("image,caption\n," + "a" * 200_000 + "\n")
    assert len(read(path).records[0].captions[0]) == 200_000
    path.write_text('image,caption\n,b\n,"' + "a" * (1 << 24) + "a\n")
    with pytest.raises(
        DataError, match=r"c.csv, line 3: a value has more than 16,777,216 characters; shorten it, or cl"
    ):
        read(path)


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n", "\nsep=;\n"])
def test_the_line_in_which_excel_is_told_the_delimiter(tmp_path: Path, first: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"{first}image;caption;split,labels|id\n;a, b, c;train\n", newline="")
    (record,) = read(path).records
    assert (record.captions, record.metadata) == (("a, b, c",), {"split,labels|id": "train"})
    path.write_text(f"{first}image;caption\n;a;b\n", newline="")
    with pytest.raises(DataError, match=rf"line {first.count(chr(10)) + 2}: 3 values for the 2 columns"):
        read(path)
    path.write_text("sep=\t\nimage\tcaption\n\ta,b,c\n")
    assert read(path).records[0].captions == ("a,b,c",)
