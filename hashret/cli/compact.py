"""``hashret compact``: free the space of deleted and replaced items."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = (
    "Free the space of deleted and replaced items of a collection. Searches go on meanwhile; nobody else can write. "
    "hashret index, watch and serve do it by themselves where more rows are dead than live."
)
EXAMPLES = ("hashret compact photos.hashret",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("collection", type=Path, help="the directory of a collection")


def run(args: argparse.Namespace) -> None:
    """Compact, and print what it has freed."""
    from hashret.collection import Collection

    with Collection.open(args.collection, mode="w") as collection:
        before = collection.info()
        collection.compact()
        after = collection.info()
    freed = before.codes_bytes + before.catalogue_bytes - after.codes_bytes - after.catalogue_bytes
    print(f"{before.dead:,} dead rows removed, {after.count:,} items left; {max(freed, 0):,} bytes freed")
