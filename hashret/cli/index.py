"""``hashret index``: encode a folder of photos, or a data set, into a collection."""

from __future__ import annotations

import argparse
from dataclasses import replace

from hashret.errors import InputError

SUMMARY = (
    "Make a folder of photos searchable: encode what is new or has changed since the last time. "
    "With --data, encode a data set (its pictures or its captions) into a new collection."
)
EXAMPLES = (
    "hashret index ./photos",
    "hashret index ./photos --model model/ --out photos.hashret --prune",
    "hashret index model/ --data captions.jsonl --split test --n-bits 64 --out test.hashret",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments, add_encoding_arguments
    from hashret.cli._folder import add_folder_arguments

    parser.add_argument("source", metavar="FOLDER|MODEL", help="a folder of pictures; with --data, a model's directory")
    add_folder_arguments(parser)
    parser.add_argument("--prune", action="store_true", help="remove the pictures whose files are gone from FOLDER")
    add_data_arguments(parser, required=False)
    add_encoding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Encode, then store."""
    if args.data is None:
        _index_folder(args)
    else:
        _index_data(args)


def _index_folder(args: argparse.Namespace) -> None:
    from hashret.cli._common import given_of_data, quoted
    from hashret.cli._folder import open_folder, place_of, report

    given = given_of_data(args) + (["--modality text"] if args.modality == "text" else [])
    if given:
        raise InputError(f"{' and '.join(given)} belongs to a data set; name it with --data, after the model")
    with open_folder(args, args.source) as index:
        for line in report(index.update(prune=args.prune)):
            print(line)
        collection, out = index.collection, place_of(args.source, args.out)
        print(f"{len(collection)} items of {collection.n_bits} bits in {out}")
        print(f'search it with: hashret search {quoted(out)} "some words"')


def _index_data(args: argparse.Namespace) -> None:
    from hashret.cli._common import open_split, quoted, readable
    from hashret.engine import open_model
    from hashret.indexing import index_dataset

    if args.model is not None or args.prune:
        raise InputError("--model and --prune belong to a folder; with --data, the model comes first")
    if args.out is None:
        raise InputError("name the collection to make with --out")
    if args.out.exists():
        raise InputError(f"{str(args.out)!r} exists; choose another --out or delete it")
    model = open_model(args.source, device=args.device)
    dataset = open_split(args)
    if args.credits is not None:
        dataset = replace(dataset, credits=args.credits)
    if args.modality == "image":
        dataset = readable(dataset, strict=args.strict)
    with index_dataset(
        model,
        dataset,
        args.out,
        model_path=args.source,
        modality=args.modality,
        n_bits=args.n_bits,
        batch_size=args.batch_size,
    ) as collection:
        print(f"{len(collection)} items of {collection.n_bits} bits in {args.out}")
        print(f'search it with: hashret search {quoted(args.out)} "some words"')
