"""From rows to records: the checks and the merging that every reader shares.

A row is what one line of a file says. Rows with the same id and picture are one record; their captions and labels
add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hashret.data.files import is_file, spelling_of
from hashret.data.readers._values import check_metadata, check_text
from hashret.data.records import Record, Skipped
from hashret.errors import DataError

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "train",  # Karpathy's: of COCO's validation set, what is not kept for validation and test
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


class Gathered(NamedTuple):
    """What a reader gives: records, and what it left out."""

    records: tuple[Record, ...]
    skipped: Skipped


@dataclass
class Row:
    """One line's content, unchecked; for messages ``where`` is ``"file, line 3"``, ``others`` what else is there."""

    where: str
    image: Any = None
    captions: Any = ()
    split: Any = None
    labels: Any = ()
    id: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    others: Sequence[str] = ()


@dataclass
class _Draft:
    where: str
    image: Path | None
    split: str | None
    metadata: dict[str, Any]
    captions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def gather(rows: Sequence[Row], *, base: Path, strict: bool) -> Gathered:
    """Records from rows, in the order of their first row.

    Args:
        rows: what the file says.
        base: what picture paths are relative to.
        strict: refuse empty captions, missing pictures, and rows with neither, rather than leave them out.

    Raises:
        DataError: a value of the wrong kind or one that cannot be stored, one id for two pictures, one picture in two
            splits; with ``strict``, an empty caption, a missing picture, or a row with neither.
    """
    drafts: dict[str, _Draft] = {}
    left_out: list[tuple[str, str]] = []
    for row in rows:
        image, written = _image(row, base)
        name = _id(row, written)
        captions = _texts(row.captions, "captions", row.where)
        kept = [caption.strip() for caption in captions if caption.strip()]
        if len(kept) < len(captions):
            if strict:
                raise DataError(f"{row.where}: the caption is empty; write one, or take the entry out")
            left_out.append((row.where, f"{row.where}: empty caption"))
        elif image is None and not kept:
            has = ", ".join(map(repr, [*row.metadata, *row.others]))
            reason = (
                f"{row.where}: neither a picture nor a caption; a record needs 'image' or 'caption'"
                f"{', and this one has ' + has if has else ''}"
            )
            if strict:
                raise DataError(reason)
            left_out.append((row.where, reason))
        if image is None and not kept:
            continue
        split = _split(row)
        check_metadata(row.metadata, row.where)
        draft = drafts.setdefault(name, _Draft(row.where, image, split, dict(row.metadata)))
        if draft.image != image:
            raise DataError(
                f"{row.where}: the id {name!r} was given to another picture in {draft.where}; "
                f"give every picture an id of its own"
            )
        if draft.split != split:
            raise DataError(
                f"{row.where}: {name!r} is in the split {split!r} here and {draft.split!r} in {draft.where}; "
                f"a picture belongs to one split"
            )
        draft.captions.extend(kept)
        draft.labels.extend(label for label in _texts(row.labels, "labels", row.where) if label not in draft.labels)
    check_pictures((draft.image, draft.split, draft.where) for draft in drafts.values())
    found = _check_files(drafts, base=base, strict=strict)
    places, reasons = (tuple(column) for column in zip(*left_out)) if left_out else ((), ())
    return Gathered(found.records, found.skipped + Skipped(places, reasons))


def check_pictures(items: Iterable[tuple[Path | None, str | None, str]]) -> None:
    """Refuse one picture in two splits, which would be measured on what was learned from.

    Args:
        items: the picture, the split and the place ("file, line 3") of each record, whatever their ids; those without a
            picture or a split do not count.

    Raises:
        DataError: there is one; both places are named.
    """
    seen: dict[str, tuple[str, str]] = {}
    for image, split, where in items:
        if image is None or split is None:
            continue
        other, there = seen.setdefault(spelling_of(image), (split, where))
        if other != split:
            raise DataError(
                f"{where}: the picture {str(image)!r} is in the split {split!r} here and {other!r} in {there}; "
                f"a picture belongs to one split, whatever the ids of its records"
            )


def _check_files(drafts: Mapping[str, _Draft], *, base: Path, strict: bool) -> Gathered:
    missing = [name for name, draft in drafts.items() if draft.image is not None and not is_file(draft.image)]
    if missing and strict:
        shown = ", ".join(repr(str(drafts[name].image)) for name in missing[:5])
        raise DataError(
            f"{len(missing)} of {len(drafts)} pictures are missing: {shown}{', …' if len(missing) > 5 else ''}; "
            f"check the paths, which are taken from {str(base)!r} on (in Python, images_root= names another folder)"
        )
    absent = set(missing)
    records = tuple(
        Record(name, tuple(draft.captions), draft.image, draft.split, tuple(draft.labels), draft.metadata)
        for name, draft in drafts.items()
        if name not in absent
    )
    skipped = Skipped(tuple(missing), tuple(f"there is no picture {str(drafts[n].image)!r}" for n in missing))
    return Gathered(records, skipped)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (a byte order mark is dropped).

    Raises:
        DataError: it cannot be read, or is not UTF-8; the line is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def first_said(*values: Any) -> Any:
    """The first value that says something; where none does, the first that is there at all, so that it is named."""
    given = [value for value in values if value is not None]
    return next((value for value in given if _says(value)), given[0] if given else ())


def split_name(name: str) -> str:
    """A split as everything else calls it: ``train``, ``val`` and ``test`` for what is known under other names."""
    name = name.strip()
    return _SPLIT_NAMES.get(name.lower(), name)


def _says(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    return not isinstance(value, list) or any(not isinstance(one, str) or one.strip() for one in value)


def _image(row: Row, base: Path) -> tuple[Path | None, str | None]:
    if row.image is None or row.image == "":
        return None, None
    if not isinstance(row.image, str) or "\0" in row.image:
        raise DataError(f"{row.where}: 'image' must be the path of a picture, and not {row.image!r}")
    return base / row.image, row.image


def _id(row: Row, written: str | None) -> str:
    if row.id is None or row.id == "":
        name = written if written is not None else row.where.rpartition(", ")[2]
    elif isinstance(row.id, bool) or not isinstance(row.id, str | int):
        raise DataError(f"{row.where}: 'id' must be a string or an integer, and not {row.id!r}")
    else:
        name = str(row.id)
    check_text(name, "id", row.where)
    return name


def _texts(value: Any, what: str, where: str) -> list[str]:
    if value is None:
        return []
    values = [value] if isinstance(value, str | int) else value
    if not isinstance(values, list | tuple):
        raise DataError(f"{where}: {what!r} must be a list of strings, and not {value!r}")
    for item in values:
        if isinstance(item, bool) or not isinstance(item, str if what == "captions" else str | int):
            raise DataError(f"{where}: {what!r} must hold strings, and not {item!r}")
        check_text(str(item), what.removesuffix("s"), where)
    return [str(item) for item in values]


def _split(row: Row) -> str | None:
    if row.split is None or row.split == "":
        return None
    if not isinstance(row.split, str):
        raise DataError(f"{row.where}: 'split' must be a string such as \"train\", and not {row.split!r}")
    check_text(row.split, "split", row.where)
    return split_name(row.split)
