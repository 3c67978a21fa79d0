"""What several commands share: the data arguments, the items of a data set, files written whole or not at all."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hashret.errors import DataError, StorageError

if TYPE_CHECKING:
    from hashret.data import Dataset


def add_data_arguments(parser: argparse.ArgumentParser, *, split: str | None = None) -> None:
    """``--data``, ``--split``, ``--strict`` and ``--seed``."""
    parser.add_argument(
        "--data", required=True, help="a JSON-lines, CSV or Karpathy file, a folder of pictures, or the name emoji"
    )
    parser.add_argument("--split", default=split, help=f"only this split ({split or 'everything'})")
    parser.add_argument("--strict", action="store_true", help="refuse data with unreadable pictures or empty captions")
    parser.add_argument("--seed", type=int, default=0, help="seed of the splits, where the data have none (0)")


def open_data(args: argparse.Namespace) -> Dataset:
    """The data set that the arguments name, or one split of it."""
    from hashret.data import open_dataset

    dataset = open_dataset(args.data, seed=args.seed, strict=args.strict)
    return dataset.split(args.split) if args.split else dataset


def readable(dataset: Dataset, *, strict: bool) -> Dataset:
    """The records whose pictures decode; the others are counted and named on standard error."""
    from hashret.data import readable_images

    kept, skipped = readable_images(dataset, strict=strict)
    if skipped.count:
        print(f"hashret: {skipped}", file=sys.stderr)
    if not len(kept):
        raise DataError(f"none of the {len(dataset)} pictures of {dataset.name!r} can be read")
    return kept


def items_of(dataset: Dataset, modality: str, *, strict: bool) -> tuple[list[str], list[Any]]:
    """The ids and the items of one modality: pictures by their record's id, captions as ``id#n``."""
    if modality == "image":
        kept = readable(dataset, strict=strict)
        return [record.id for record in kept.records], [record.image for record in kept.records]
    pairs = [(f"{record.id}#{n}", text) for record in dataset.records for n, text in enumerate(record.captions)]
    if not pairs:
        raise DataError(f"{dataset.name!r} has no captions to encode")
    return [id for id, _ in pairs], [text for _, text in pairs]


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under a temporary name, then put it in place.

    Raises:
        StorageError: the file cannot be written; nothing is left behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
