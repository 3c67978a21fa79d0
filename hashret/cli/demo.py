"""``hashret demo``: the main job on built-in data."""

from __future__ import annotations

import argparse
from pathlib import Path

from hashret._lazy import require

SUMMARY = "Learn codes for emoji and their names, index the held-out ones, search both ways, and write a report."
EXAMPLES = ("hashret demo", "hashret demo --out demo-out --seed 1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where to (demo-out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="where computed features are kept (~/.cache/hashret)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")


def run(args: argparse.Namespace) -> None:
    """Run it, print the table, and say where to look."""
    from hashret.cli._common import announced, quoted
    from hashret.cli.eval import table
    from hashret.data import open_dataset

    require("torch", extra="demo")  # told at once, and with the extra that brings all the rest
    from hashret.demo import run_demo

    announced(open_dataset("emoji"))
    result = run_demo(args.out, config="emoji", seed=args.seed, cache_dir=args.cache, settings=args.set)
    print(table(result.measured))
    total = sum(result.seconds.values())
    print(f"\n{total:.0f} s: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items()))
    report, collection = args.out / "report.html", quoted(args.out / "emoji.hashret")
    print(f'open {report}, or search: hashret search {collection} "a happy face"')
