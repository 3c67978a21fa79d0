"""From a data set to a collection: encode in batches, store ids, metadata and codes as they come.

Knows data sets and their records; folders that change are the work of ``folder``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashret._files import sync_directory
from hashret._lazy import progress
from hashret.collection import Collection, check_items
from hashret.errors import DataError, InputError, StorageError

if TYPE_CHECKING:
    from hashret.data import Dataset
    from hashret.data.records import Record
    from hashret.engine import Model

COMMIT = 1024  # items encoded and stored at a time


def index_dataset(
    model: Model,
    dataset: Dataset,
    out: str | Path,
    *,
    model_path: str | Path | None = None,
    modality: str = "image",
    n_bits: int | None = None,
    batch_size: int = 64,
) -> Collection:
    """A new collection at ``out`` with the pictures, or the captions, of ``dataset``.

    Pictures are stored under their record's id, captions under ``id#n``. The metadata of an item are those of its
    record, and ``image``, ``captions``, ``labels`` and ``split``. The collection appears at ``out`` when it is whole;
    until then it is a hidden directory beside it.

    Args:
        model: what encodes.
        dataset: what is encoded; every picture must be readable.
        out: the directory to make.
        model_path: where a searcher finds the model; stored as an absolute path.
        modality: ``"image"`` or ``"text"``.
        n_bits: a length of the model's nested codes; the longest without.
        batch_size: items that are encoded together.

    Raises:
        DataError: the data set has nothing of this modality, or an id or metadata that cannot be stored; nothing was
            encoded then.
        StorageError: ``out`` exists or cannot be written.

    Returns:
        The collection, open for reading.
    """
    entries = list(_entries(dataset, modality))
    if not entries:
        raise DataError(f"{dataset.name!r} has no {'pictures' if modality == 'image' else 'captions'} to index")
    out = Path(out)
    if out.exists():
        raise StorageError(f"{str(out)!r} exists; choose another directory for the collection, or delete it")
    batches = _batches(entries)
    for ids, _, metadata in batches:
        _check(ids, metadata)
    _remove_left(out)
    part = out.with_name(f".{out.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        collection = Collection.create(
            part,
            n_bits=n_bits or model.n_bits,
            fingerprint=model.fingerprint,
            model=str(Path(model_path).resolve()) if model_path is not None else None,
            credits=dataset.credits or None,
        )
        with collection:
            for ids, items, metadata in progress(batches, label=f"index {modality}s", total=len(batches), unit="batch"):
                codes = model.encode(modality, items, n_bits=n_bits, batch_size=batch_size)
                collection.add(codes, ids=ids, metadata=metadata)
        _put_in_place(part, out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Collection.open(out)


def _batches(entries: list[tuple[str, Any, dict[str, Any]]]) -> list[tuple[list[str], list[Any], list[dict[str, Any]]]]:
    """Ids, items and metadata of what is stored together."""
    starts = range(0, len(entries), COMMIT)
    return [tuple(map(list, zip(*entries[start : start + COMMIT]))) for start in starts]  # type: ignore[misc]


def _check(ids: list[str], metadata: list[dict[str, Any]]) -> None:
    """Refuse now what the collection would refuse after hours of encoding."""
    try:
        check_items(ids, metadata, count=len(ids))
    except InputError as error:
        raise DataError(f"not every item can be stored, so nothing was encoded: {error}") from error


def _remove_left(out: Path) -> None:
    """Remove what killed runs left; what somebody writes to at the moment is locked, and stays."""
    for left in out.parent.glob(f".{escape(out.name[:40])}.{'[0-9a-f]' * 8}.part"):
        with contextlib.suppress(StorageError), Collection.open(left, mode="w"):
            shutil.rmtree(left, ignore_errors=True)


def _put_in_place(part: Path, out: Path) -> None:
    try:
        part.rename(out)
        sync_directory(out.parent)
    except OSError as error:  # another run, for one, was faster
        raise StorageError(
            f"the collection {str(out)!r} cannot be made ({error.strerror or error}); give another directory, or "
            "delete what is there"
        ) from error


def _entries(dataset: Dataset, modality: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for record in dataset.records:
        if modality == "text":
            for n, text in enumerate(record.captions):
                yield f"{record.id}#{n}", text, {**_metadata(record), "captions": [text]}
        elif record.image is not None:
            yield record.id, record.image, _metadata(record)


def _metadata(record: Record) -> dict[str, Any]:
    stored = {**record.metadata, "captions": list(record.captions), "labels": list(record.labels)}
    if record.image is not None:
        stored["image"] = os.path.realpath(record.image)  # who searches may stand elsewhere, and follows no links
    if record.split is not None:
        stored["split"] = record.split
    return stored
