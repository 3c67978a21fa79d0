"""A folder of pictures, with captions beside them or without.

    photos/beach.jpg, photos/beach.txt           one caption a line
    photos/captions.jsonl | .json | .csv | .txt  one table for all

Sub-folders are read too, hidden files and folders are not. A picture that has no captions gives a record without
captions: enough to index it, not to train on it. One whose name is not UTF-8 is left out, since it can be no id, and so
is a sub-folder that cannot be read; both are named.
"""

from __future__ import annotations

import os
from pathlib import Path

from hashret._text import is_text
from hashret.data.files import is_file, spelling_of
from hashret.data.readers._rows import Gathered, Row, gather, read_text
from hashret.data.records import Skipped
from hashret.errors import DataError

# What Pillow reads as pixels, .heic with another package. Not drawings (.eps, .wmf), films and formats of measurements
# (.fits, .h5).
_PHOTOS = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif", ".avifs", ".psd"}
_MASTERS = {".tif", ".tiff", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
_PLAIN = {".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".tga", ".ico", ".pcx", ".sgi"}
_PHONES = {".heic", ".heif", ".hif"}
PICTURES = frozenset(_PHOTOS | _PHONES | _MASTERS | _PLAIN)
TABLES = ("captions.jsonl", "captions.json", "captions.csv", "captions.tsv", "captions.txt")


def read_folder(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """One record a picture, its path inside the folder as id, sorted; those of a caption table come first.

    Raises:
        DataError: the folder holds no picture, cannot be read, or its caption table is wrong; with ``strict``, a name
            is not UTF-8, or a sub-folder cannot be read.
    """
    if not path.is_dir():
        raise DataError(f"{str(path)!r} is no folder")
    table = next((path / name for name in TABLES if is_file(path / name)), None)
    listed = _read_table(table, images_root, strict) if table else Gathered((), Skipped())
    names, closed = _pictures(path)
    if not names and not listed.records:
        why = f"; {closed.summary()}" if closed.count else ""
        raise DataError(f"there are no pictures in {str(path)!r}; known are {', '.join(sorted(PICTURES))}{why}")
    known = {spelling_of(record.image) for record in listed.records if record.image is not None}
    odd = tuple(name for name in names if not is_text(name))
    unused = closed + Skipped(odd, tuple(f"the path {str(path / name)!r} is not UTF-8; rename it" for name in odd))
    if unused.count and strict:
        raise DataError(unused.reasons[0])
    rows = [
        Row(where=str(path / name), image=name, captions=_sidecar(path / name))
        for name in names
        if spelling_of(path / name) not in known and is_text(name)
    ]
    found = gather(rows, base=path, strict=strict)
    return Gathered(listed.records + found.records, listed.skipped + found.skipped + unused)


def has_pictures(folder: Path) -> bool:
    """Whether ``read_folder`` would find anything: a table of captions, or a picture at any depth."""
    return any(is_file(folder / name) for name in TABLES) or bool(_pictures(folder)[0])


def _read_table(table: Path, images_root: Path | None, strict: bool) -> Gathered:
    from hashret.data.readers import READERS, detect  # which imports this module first

    gathered: Gathered = READERS.load(detect(table))(table, images_root=images_root, strict=strict)
    return gathered


def _pictures(folder: Path) -> tuple[list[str], Skipped]:
    """The pictures' paths inside the folder, sorted, and the sub-folders that cannot be read."""
    names: list[str] = []
    refused: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder)
        names += [
            (inside / name).as_posix()
            for name in files
            if Path(name).suffix.lower() in PICTURES and not name.startswith(".")
        ]
    places = [Path(error.filename or folder) for error in refused]  # a failing disk names none
    reasons = tuple(
        f"the folder {str(place)!r} cannot be read: {error.strerror or error}; give rights to it, or move it away"
        for place, error in zip(places, refused)
    )
    if folder in places:
        raise DataError(reasons[places.index(folder)])
    return sorted(names), Skipped(tuple(place.relative_to(folder).as_posix() + "/" for place in places), reasons)


def _sidecar(picture: Path) -> list[str]:
    for beside in (picture.with_suffix(".txt"), picture.with_name(picture.name + ".txt")):
        if is_file(beside):
            return [line for line in read_text(beside).split("\n") if line.strip()]
    return []
