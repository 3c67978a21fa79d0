"""Karpathy's JSON, the form in which Flickr8k, Flickr30K and COCO captions are passed around.

    {"images": [{"filepath": "val2014", "filename": "1.jpg", "split": "restval", "sentences": [{"raw": "a dog"}]}]}

``restval`` counts as ``train``. Picture names are often bare: without ``images_root`` they are looked for beside the
file, and in the folder ``images`` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hashret.data.files import is_file
from hashret.data.readers._rows import Gathered, Row, gather, read_text
from hashret.data.readers._values import load_json
from hashret.errors import DataError


def read_karpathy(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a Karpathy file.

    Raises:
        DataError: no list ``images``, or an entry without ``filename`` or ``sentences[].raw``.
    """
    content = load_json(read_text(path), path)
    images = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(images, list):
        raise DataError(f"{str(path)!r} is not Karpathy's JSON: it has no list 'images'")
    rows = [_row(entry, f"{path}, images[{number}]") for number, entry in enumerate(images)]
    return gather(rows, base=images_root or _base(path.parent, rows), strict=strict)


def _row(entry: Any, where: str) -> Row:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("filename"), str):
        raise DataError(f"{where}: an entry needs 'filename', the name of its picture")
    sentences = entry.get("sentences", [])
    if not isinstance(sentences, list) or not all(isinstance(s, Mapping) and "raw" in s for s in sentences):
        raise DataError(f"{where}: 'sentences' must be a list of objects with the caption in 'raw'")
    folder = entry.get("filepath") or ""
    return Row(
        where=where,
        image=str(PurePosixPath(str(folder)) / entry["filename"]),
        captions=[sentence["raw"] for sentence in sentences],
        split=entry.get("split"),
        metadata={key: entry[key] for key in ("imgid", "cocoid") if key in entry},
    )


def _base(folder: Path, rows: list[Row]) -> Path:
    """``folder``, unless the pictures lie in its ``images``."""
    first = [str(row.image) for row in rows[:20]]
    if (folder / "images").is_dir() and not any(is_file(folder / name) for name in first):
        return folder / "images"
    return folder
