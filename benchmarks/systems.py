"""Every system on equal pairs and equal backbones: one table, and for each claim a look whether it holds.

    python benchmarks/systems.py --data captions.jsonl                 the whole; resumable, hours on 2 cores
    python benchmarks/systems.py --data captions.jsonl --quick         fewer epochs, one seed, one length

A system is trained as its configuration says, chosen on the validation split, and measured on the test split once. A
claim is tested by training again without the part (the overrides stand in the configuration), same seed, and a paired
bootstrap over test queries, the captions of one picture resampled together. ``--minutes`` stops before the next cell; a
rerun goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import _command
from _machine import name_of_data
from _systems_cells import MARK, Cell, compute
from _systems_pairs import AS_IT_IS, FROZEN, vit_pair
from _systems_tables import Row, write_tables

from hashret.data import open_dataset
from hashret.errors import WeightsError
from hashret.training import read_config

SYSTEMS = ("hashret", "miite", "tecmh", "vit2cmh", "aai", "cmhr_drn", "rcar", "mvsen")
MAIN, OTHERS = 256, (64, 1024)
ALONE = {  # nested systems, trained for one length alone, to see what nesting costs it
    "hashret": ("model.n_bits=64", "model.code_lengths=[64]", "selection.n_bits=64"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, help="where tables go (benchmarks/results; of a part of the runs --runs)")
    parser.add_argument("--runs", type=Path, default=Path("runs/systems"))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="of all epochs")
    parser.add_argument("--minutes", type=float, help="start no cell after so many")
    parser.add_argument("--one-seed", action="store_true", help="256 bits and the first seed alone")
    parser.add_argument("--no-claims", action="store_true", help="the table alone")
    parser.add_argument("--quick", action="store_true", help="a third of the epochs, one seed, 256 bits, no claims")
    args = parser.parse_args()
    if args.quick:
        args.scale, args.seeds, args.no_claims = 0.34, args.seeds[:1], True

    if args.out is None:
        part = [
            parser.get_default(name) != getattr(args, name)
            for name in ("systems", "seeds", "scale", "one_seed", "no_claims")
        ]
        args.out = args.runs if any(part) else Path("benchmarks/results")
        args.out /= "systems.json"

    dataset = open_dataset(args.data)
    until = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    wanted = dict.fromkeys(_cells(args))
    cells = {}
    for number, cell in enumerate(wanted, start=1):
        if until is not None and time.monotonic() > until and not (args.runs / cell.name / MARK).exists():
            continue
        print(f"{number}/{len(wanted)} {cell.name} {' '.join(cell.overrides)}", flush=True)
        try:
            cells[cell] = compute(cell, dataset, args.runs)
        except WeightsError as error:
            print(f"left out: {error}", flush=True)
    write_tables(
        args.out,
        cells,
        args.runs,
        data=name_of_data(args.data),
        rows=list(_rows(args.systems)),
        n_bits=MAIN,
        seed=args.seeds[0],
        scale=args.scale,
        missing=len(wanted) - len(cells),
    )
    print(args.out.with_suffix(".md").read_text(encoding="utf-8"))


def _cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Every cell in the order of use: all systems once, their claims, further seeds and lengths, the ViT pair."""

    def cell(system: str, n_bits: int, seed: int, overrides: tuple[str, ...]) -> Cell:
        return Cell(system, n_bits, seed, overrides, args.scale)

    first = args.seeds[0]
    for system in args.systems:
        yield cell(system, MAIN, first, FROZEN.get(system, ()))
    if not args.no_claims:
        for system in args.systems:
            for claim in read_config(system).claims.values():
                yield cell(system, MAIN, first, claim.given)
                if claim.without:
                    yield cell(system, MAIN, first, (*claim.given, *claim.without))
    if args.quick or args.one_seed:
        return
    for seed in args.seeds[1:]:
        for system in args.systems:
            yield cell(system, MAIN, seed, FROZEN.get(system, ()))
    for seed in args.seeds:
        for system in args.systems:
            if system in AS_IT_IS:
                yield cell(system, MAIN, seed, ())
    for n_bits in OTHERS:
        for system in args.systems:
            if not read_config(system).model.code_lengths:
                yield cell(system, n_bits, first, FROZEN.get(system, ()))
    for system in args.systems:
        if system in ALONE:
            for seed in args.seeds:
                yield cell(system, 64, seed, ALONE[system])
    for system in args.systems:
        name, overrides = vit_pair(system)
        yield cell(name, MAIN, first, overrides)


def _rows(systems: list[str]) -> Iterator[Row]:
    """The rows of the systems' table."""
    for system in systems:
        yield Row(system, system, FROZEN.get(system, ()))
        name = f"{system}, {AS_IT_IS[system]}" if system in AS_IT_IS else system
        if system in AS_IT_IS:
            yield Row(name, system)
        if system in ALONE:
            yield Row(f"{name}, one length", system, ALONE[system])
    for system in systems:
        yield Row(f"{system}, ViT pair", *vit_pair(system))


if __name__ == "__main__":
    _command.run(main)
