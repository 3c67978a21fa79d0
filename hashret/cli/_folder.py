"""What the commands on a folder of photos share: its arguments, opening it, and the report on an update."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hashret.cli._common import printable, quoted
from hashret.errors import DataError, InputError

if TYPE_CHECKING:
    from hashret.indexing import Changes, FolderIndex

_SHOWN = 5


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--out`` and ``--credits``."""
    parser.add_argument(
        "--model",
        help="a model's directory; without, the one that the collection names, else HASHRET_MODEL, else one that is "
        "trained once on the built-in emoji (about 2 minutes)",
    )
    parser.add_argument("--out", type=Path, help="the collection (here, the folder's name with .hashret)")
    parser.add_argument("--credits", help="whom to thank for the pictures; kept with a new collection and shown")


def place_of(folder: str, out: Path | None) -> Path:
    """Where the collection of a folder is."""
    if out is not None:
        return out
    return Path(Path(os.path.realpath(folder)).name + ".hashret")  # Path.resolve raises where links lead in a circle


def open_folder(args: argparse.Namespace, folder: str) -> FolderIndex:
    """The folder and its collection, which is made where there is none; see ``FolderIndex.open``."""
    from hashret.indexing import FolderIndex, default_model, walk_folder

    root, out, model = Path(folder), place_of(folder, args.out), args.model
    if (root / "model.json").is_file():
        raise InputError(f"{folder!r} is a model; name what it is to encode with --data, or give a folder of pictures")
    if out.is_dir() and not any(out.iterdir()):  # a fresh volume, for one: it cannot be replaced by a collection
        inside = quoted(out / place_of(folder, None))
        raise InputError(f"{str(out)!r} is an empty folder; name the collection to make in it, such as --out {inside}")
    walk = walk_folder(root)
    if not out.exists():
        if not walk.found:
            raise DataError(f"there are no pictures in {folder!r}{_others(walk.others)}")
        if model is None:
            model = default_model(say=lambda sentence: print(f"hashret: {sentence}", file=sys.stderr, flush=True))
    return FolderIndex.open(
        root,
        out,
        model=model,
        n_bits=args.n_bits,
        credits=args.credits,
        batch_size=args.batch_size,
        device=args.device,
    )


def report(changes: Changes) -> list[str]:
    """What an update did, in lines."""
    done = [
        f"{count} {what}"
        for count, what in (
            (changes.added, "added"),
            (changes.changed, "changed"),
            (changes.touched, "with new metadata"),
            (changes.removed, "removed"),
            (changes.unchanged, "unchanged"),
            (changes.waiting, "being written"),
        )
        if count
    ]
    speed = f", {changes.encoded / changes.seconds:.0f} a second" if changes.encoded else ""
    lines = [
        f"pictures: {', '.join(done) or 'none'} ({changes.encoded} encoded{speed}; {changes.seconds:.1f} s)",
    ]
    if changes.skipped.count:
        lines.append(changes.skipped.summary(show=_SHOWN))
    if changes.others:
        lines.append(f"left out{_others(changes.others)}")
    if changes.gone:
        more = f" and {len(changes.gone) - _SHOWN} more" if len(changes.gone) > _SHOWN else ""
        listed = ", ".join(map(printable, changes.gone[:_SHOWN]))
        lines.append(f"gone from the folder, still in the collection: {listed}{more}; --prune removes them")
    return lines


def _others(counts: Mapping[str, int]) -> str:
    """Files that are no pictures by their name, such as ``: 3 files that are no pictures (.txt 2, .mp4 1)``."""
    if not counts:
        return ""
    listed = ", ".join(
        f"{printable(suffix)} {count}" for suffix, count in sorted(counts.items(), key=lambda item: -item[1])
    )
    return f": {sum(counts.values())} files that are no pictures by their name ({listed})"
