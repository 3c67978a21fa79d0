"""What several commands share: the data arguments, the items of a data set, how paths and ids are printed."""

from __future__ import annotations

import argparse
import codecs
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashret.errors import DataError, InputError

if TYPE_CHECKING:
    from hashret.data import Dataset


DATA = "a JSON-lines, CSV or Karpathy file, a folder of pictures, tar shards, or the name emoji"
# what a terminal would obey, or a line would be broken by: controls, line ends, turned writing, bytes that are no text
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def add_data_arguments(parser: argparse.ArgumentParser, *, split: str | None = None, required: bool = True) -> None:
    """``--data``, ``--split``, and how splits are found where the data have none."""
    parser.add_argument("--data", required=required, help=DATA)
    parser.add_argument("--split", help=f"only this split ({split or 'everything'})")
    parser.set_defaults(usual_split=split)  # apart, so that it is seen whether one is given
    add_reading_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """``--strict``, ``--splits`` and ``--split-seed``.

    The seed of the splits is not that of the training: a model must be measured on the split that it never saw,
    whatever seed it was trained with.
    """
    parser.add_argument("--strict", action="store_true", help="refuse data with unreadable pictures or empty captions")
    parser.add_argument("--splits", type=Path, help="take the splits from this file, such as RUN/splits.json")
    parser.add_argument("--split-seed", type=int, default=0, help="seed of the splits, where the data have none (0)")


def add_encoding_arguments(parser: argparse.ArgumentParser) -> None:
    """``--modality``, ``--n-bits``, ``--batch-size`` and ``--device``."""
    parser.add_argument("--modality", choices=("image", "text"), default="image", help="what to encode (image)")
    parser.add_argument("--n-bits", type=int, help="the first bits only, best one of the model's code lengths (all)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="auto")


def given_of_data(args: argparse.Namespace) -> list[str]:
    """Which options of a data set are given, for commands that refuse them without one."""
    names = ("split", "splits", "split_seed", "strict")
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) not in (None, False, 0)]


def split_of(args: argparse.Namespace) -> str | None:
    """The split that the arguments name, or else the command's own; none or "": everything."""
    split: str | None = args.usual_split if args.split is None else args.split
    return split


def open_data(args: argparse.Namespace) -> Dataset:
    """The data set that the arguments name, with its splits, once its credits are on standard error."""
    from hashret.data import open_dataset

    return announced(open_dataset(args.data, seed=args.split_seed, splits=args.splits, strict=args.strict))


def open_split(args: argparse.Namespace) -> Dataset:
    """The split of the data set that the arguments name, or all of it."""
    dataset, split = open_data(args), split_of(args)
    return dataset.split(split) if split else dataset


def announced(dataset: Dataset) -> Dataset:
    """The data set, once its credits are on standard error; what its reader left out was logged there."""
    if dataset.credits:
        print(dataset.credits, file=sys.stderr)
    return dataset


def readable(dataset: Dataset, *, strict: bool) -> Dataset:
    """The records whose pictures decode; the others are logged."""
    from hashret.data import readable_images

    if not any(record.image is not None for record in dataset):
        keys = ", ".join(map(repr, dataset[0].metadata)) if len(dataset) else ""
        raise DataError(
            f"no record of {dataset.name!r} names a picture; its path is to stand under 'image'"
            f"{', and the first one has ' + keys if keys else ''}"
        )
    return readable_images(dataset, strict=strict)[0]


def items_of(dataset: Dataset, modality: str, *, strict: bool) -> tuple[list[str], list[Any]]:
    """The ids and the items of one modality: pictures by their record's id, captions as ``id#n``."""
    if modality == "image":
        kept = readable(dataset, strict=strict)
        return [record.id for record in kept.records], [record.image for record in kept.records]
    pairs = [(f"{record.id}#{n}", text) for record in dataset.records for n, text in enumerate(record.captions)]
    if not pairs:
        raise DataError(f"{dataset.name!r} has no captions to encode")
    return [id for id, _ in pairs], [text for _, text in pairs]


def check_target(path: Path) -> None:
    """Refuse a file that could not be written, before minutes of work.

    Raises:
        InputError: there is something else than a file, or no folder that may be written to.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    taken = path.exists() and not path.is_file()
    if taken or not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{str(path)!r} cannot be written; name a file in a folder that can")


def printable(text: object) -> str:
    """A text from elsewhere, such as an id, on one line and with nothing in it that a terminal obeys."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def print_json(content: object) -> None:
    """Print valid JSON, also where the output's character set is not UTF-8 and lacks letters."""
    charset = getattr(sys.stdout, "encoding", None) or "utf-8"  # closed, or a StringIO: it has none
    print(json.dumps(content, ensure_ascii=codecs.lookup(charset).name != "utf-8", indent=2), flush=True)


def quoted(path: object) -> str:
    """A path as it is typed into a shell, where a leading dash would make it an option."""
    text = str(path)
    return printable(shlex.quote(f"./{text}" if text.startswith("-") else text))
