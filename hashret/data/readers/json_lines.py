"""JSON lines, and a JSON list of the same objects.

    {"image": "images/1.jpg", "captions": ["a dog", "a brown dog"], "split": "train", "labels": ["animal"], "id": "1"}

Any of the keys may be missing, as long as there is a picture or a caption; where ``captions`` says nothing, ``caption``
may stand for one. Other keys become metadata. Lines with the same picture (and no id, or the same) are one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hashret.data.readers._rows import Gathered, Row, first_said, gather, read_text
from hashret.data.readers._values import NotJson, load_json, parse_json
from hashret.errors import DataError

_KEYS = ("image", "captions", "caption", "split", "labels", "id")


def read_lines(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a JSON-lines file; blank lines are passed over.

    Raises:
        DataError: a line that is no JSON object, or holds a value of the wrong kind.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                content = parse_json(line)
            except NotJson as error:
                hint = "; every line must be one JSON object" if error.is_syntax else ""
                raise DataError(f"{where}: {error}{hint}") from error
            rows.append(_row(content, where))
    return gather(rows, base=images_root or path.parent, strict=strict)


def read_list(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a JSON file that holds a list of objects.

    Raises:
        DataError: no list, an entry that is no object, or a value of the wrong kind.
    """
    content = load_json(read_text(path), path)
    if not isinstance(content, list):
        raise DataError(f"{str(path)!r} must hold a list of records, and not {type(content).__name__}")
    rows = [_row(entry, f"{path}, entry {number}") for number, entry in enumerate(content, start=1)]
    return gather(rows, base=images_root or path.parent, strict=strict)


def _row(content: Any, where: str) -> Row:
    if not isinstance(content, Mapping):
        raise DataError(
            f'{where}: a record is an object such as {{"image": …, "captions": […]}}, and not {content!r:.60}'
        )
    return Row(
        where=where,
        image=content.get("image"),
        captions=first_said(content.get("captions"), content.get("caption")),
        split=content.get("split"),
        labels=content.get("labels"),
        id=content.get("id"),
        metadata={key: value for key, value in content.items() if key not in _KEYS},
    )
