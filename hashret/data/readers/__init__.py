"""Caption files and folders, read into records: one module a format, chosen by what the path looks like.

A reader turns its format into rows (``_rows.Row``) and knows nothing of splits with seeds, decoding or other formats.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hashret.data.readers._rows import Gathered, read_text
from hashret.data.readers._values import load_json
from hashret.data.readers.folder import PICTURES, has_pictures
from hashret.errors import DataError
from hashret.registry import Registry

__all__ = ["READERS", "Gathered", "detect", "read"]

Reader = Callable[..., Gathered]

READERS = Registry(
    "reader",
    {
        "jsonl": "hashret.data.readers.json_lines:read_lines",
        "json": "hashret.data.readers.json_lines:read_list",
        "csv": "hashret.data.readers.tables:read_csv",
        "pairs": "hashret.data.readers.tables:read_pairs",
        "karpathy": "hashret.data.readers.karpathy:read_karpathy",
        "folder": "hashret.data.readers.folder:read_folder",
        "shards": "hashret.data.readers.shards:read_shards",
    },
)

_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".token": "pairs", ".tar": "shards"}


def detect(path: Path) -> str:
    """The name of the reader for ``path``, from its suffix and, where that leaves a choice, its content.

    Raises:
        DataError: there is no such path, or its format cannot be told.
    """
    if path.is_dir():
        return "shards" if any(path.glob("*.tar")) and not has_pictures(path) else "folder"
    if not path.exists():
        raise DataError(
            f"there is no data {str(path)!r}; give a JSON-lines, CSV or Karpathy file, a folder of pictures, "
            f"tar shards, or a built-in name (emoji)"
        )
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix in PICTURES:
        raise DataError(f"{str(path)!r} is a picture; give the folder that it lies in")
    try:
        text = read_text(path)
    except DataError:
        if suffix in (".json", ".txt"):
            raise
        text = ""  # some binary format
    if suffix == ".json":
        return _detect_json(path, text)
    return _detect_text(path, text)


def _detect_text(path: Path, text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "jsonl"
    if "\t" in first and "image" not in first.lower().split("\t"):
        return "pairs"
    header = first.lower()
    for mark in ",;\t|":
        header = header.replace(mark, "\n")
    if {"image", "caption"} & {name.strip().strip('"') for name in header.split("\n")}:
        return "csv"
    raise DataError(
        f"the format of {str(path)!r} cannot be told from its name or content; save it as JSON lines or as CSV with "
        f"the columns image and caption, under a name that ends in .jsonl or .csv "
        f"(in Python, format= names its reader: {', '.join(READERS.names())})"
    )


def _detect_json(path: Path, text: str) -> str:
    lines = [line for line in text.split("\n") if line.strip()]  # splitlines() would part captions, at U+2028 for one
    if len(lines) > 1 and all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines):
        return "jsonl"
    content: Any = load_json(text, path)
    if isinstance(content, list):
        return "json"
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        if "annotations" in content:
            raise DataError(
                f"{str(path)!r} looks like COCO's annotation format; give Karpathy's JSON of the same captions "
                f"(images[].sentences), or JSON lines"
            )
        return "karpathy"
    if isinstance(content, dict) and content.keys() & {"image", "caption", "captions"}:
        return "jsonl"
    raise DataError(
        f"{str(path)!r} holds neither Karpathy's JSON (a mapping with a list 'images') nor a list of records"
    )


def read(path: Path, *, format: str | None = None, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records in ``path``.

    Args:
        path: a file or folder.
        format: a name of ``READERS``; detected when left out.
        images_root: what picture paths are relative to; the folder of ``path`` when left out.
        strict: refuse empty captions, missing pictures, and rows with neither, rather than leave them out.

    Raises:
        DataError: what is wrong, with the file and the line.
    """
    try:
        path.exists()
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    reader: Reader = READERS.load(format if format is not None else detect(path))
    gathered: Gathered = reader(path, images_root=images_root, strict=strict)
    if not gathered.records:
        why = f"; {gathered.skipped.summary()}" if gathered.skipped.count else ""
        raise DataError(f"{str(path)!r} holds no records that can be used{why}")
    return gathered
