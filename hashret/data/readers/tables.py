"""Tables of captions: CSV with a header, and Flickr's ``picture#number<TAB>caption``.

    image,caption,split,labels,id
    images/1.jpg,"a dog, running",train,animal;outdoors,1

Rows of the same picture are one record. Several labels are parted by ``;``. Other columns become metadata, as
strings, from the first row of a picture. Quotes are read strictly: one that is never closed would make a caption of all
that follows it. A first line ``sep=;``, by which Excel is told the delimiter, is taken at its word.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from hashret.data.readers._rows import Gathered, Row, gather, read_text
from hashret.errors import DataError
from hashret.registry import nearest

_COLUMNS = ("image", "caption", "split", "labels", "id")
_LONGEST = 1 << 24  # characters of a value; Python's own limit, 131,072, is less than a chapter
_EXCEL = re.compile(r'"?sep=([,;\t|:])"?', re.IGNORECASE)


def read_csv(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a CSV file; the delimiter is the comma, semicolon, tab or bar that its header uses.

    Raises:
        DataError: no header with ``image`` or ``caption``, a row with more or fewer values than the header, or a value
            whose double quotes do not enclose it.
    """
    text = read_text(path)
    delimiter = _delimiter(text)
    csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))  # for the whole process, so it is never lowered
    # splitlines() would part captions at U+2028, U+0085 and the like, where no row ends
    source = io.StringIO(text, newline="")
    lines = csv.reader(source, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] = []
    rows = []
    start = 1
    try:
        for values in lines:
            where, start = f"{path}, line {start}", lines.line_num + 1
            if not any(value.strip() for value in values):
                continue
            if not header and _EXCEL.fullmatch(delimiter.join(values)):
                continue
            if not header:
                header = _header([value.strip() for value in values], path)
                continue
            if len(values) != len(header):
                raise DataError(
                    f"{where}: {len(values)} values for the {len(header)} columns of the header "
                    f"({', '.join(header)}); put a caption that holds the delimiter in double quotes"
                )
            rows.append(_row(dict(zip(header, values)), where))
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{path}, line {start}: a value has more than {csv.field_size_limit():,} characters; shorten it, or "
                f"close the double quote that begins it"
            ) from error
        end = f", read up to line {lines.line_num}" if lines.line_num > start else ""
        raise DataError(
            f"{path}, line {start}: not valid CSV ({error}{end}); a value that begins with a double quote must end "
            f"with one, right before the next delimiter, and every quote inside it is written twice"
        ) from error
    return gather(rows, base=images_root or path.parent, strict=strict)


def read_pairs(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a text file with ``picture<TAB>caption`` lines; ``#0`` after the picture's name is dropped.

    Raises:
        DataError: a line without a tab.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, tab, caption = line.rstrip("\r").partition("\t")
        if not tab:
            raise DataError(f"{path}, line {number}: no tab between picture and caption in {line[:60]!r}")
        stem, mark, count = name.rpartition("#")
        image = stem if mark and count.isdigit() else name
        rows.append(Row(where=f"{path}, line {number}", image=image.strip(), captions=[caption]))
    return gather(rows, base=images_root or path.parent, strict=strict)


def _delimiter(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    named = _EXCEL.fullmatch(first)
    if named:
        return named[1]
    return max(",;\t|", key=first.count)


def _header(names: list[str], path: Path) -> list[str]:
    known = [name.lower() if name.lower() in _COLUMNS else name for name in names]
    if "caption" not in known and "captions" in map(str.lower, known):
        raise DataError(
            f"the header of {str(path)!r} names the column 'captions', and a row holds one: call it 'caption', and "
            f"give a picture with several captions a row for each"
        )
    if not {"image", "caption"} & set(known):
        hints = [nearest(name, _COLUMNS) for name in known if "did you mean" in nearest(name, _COLUMNS)]
        raise DataError(
            f"the header of {str(path)!r} ({', '.join(known)[:80]}) names neither 'image' nor 'caption'"
            f"{hints[0] if hints else '; write image,caption as its first line'}"
        )
    twice = [name for name in known if known.count(name) > 1]
    if twice:
        raise DataError(f"the header of {str(path)!r} names the column {twice[0]!r} twice")
    return known


def _row(values: dict[str, str], where: str) -> Row:
    labels = [label.strip() for label in values.get("labels", "").split(";")]
    return Row(
        where=where,
        image=values.get("image", "").strip(),
        captions=[values["caption"]] if "caption" in values else [],
        split=values.get("split"),
        labels=[label for label in labels if label],
        id=values.get("id", "").strip(),
        metadata={key: value for key, value in values.items() if key not in _COLUMNS},
    )
