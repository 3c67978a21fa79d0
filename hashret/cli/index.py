"""``hashret index``: encode a data set into a collection."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "Encode the pictures (or the captions) of a data set into a new collection that can be searched."
EXAMPLES = (
    "hashret index model/ --data ./photos --out photos.hashret",
    "hashret index model/ --data captions.jsonl --split test --n-bits 64 --out test.hashret",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments, add_encoding_arguments

    parser.add_argument("model", help="the directory of a model")
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="the collection to make; it must not exist yet")
    add_encoding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Encode, then store."""
    from hashret.cli._common import open_split, readable
    from hashret.errors import InputError
    from hashret.indexing import index_dataset
    from hashret.model import CrossModalHasher

    if args.out.exists():
        raise InputError(f"{str(args.out)!r} exists; choose another --out or delete it")
    model = CrossModalHasher.load(args.model, device=args.device)
    dataset = open_split(args)
    if args.modality == "image":
        dataset = readable(dataset, strict=args.strict)
    with index_dataset(
        model,
        dataset,
        args.out,
        model_path=args.model,
        modality=args.modality,
        n_bits=args.n_bits,
        batch_size=args.batch_size,
    ) as collection:
        print(f"{len(collection)} items of {collection.n_bits} bits in {args.out}")
        print(f'search it with: hashret search {args.out} "some words"')
