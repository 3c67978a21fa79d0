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
