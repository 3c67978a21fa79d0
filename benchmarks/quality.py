"""How good are codes of every method at every length, beside what they cost? Quality against bytes an item.

    python benchmarks/quality.py flickr8k/captions.jsonl          # R@K of pictures and their captions
    python benchmarks/quality.py wiki/wiki.npz                    # AP@all over shared labels
    python benchmarks/quality.py flickr8k/captions.jsonl --quick  # a small version

Writes WORK/cells/NAME/*.json (one a method and seed) and OUT/quality-NAME.md, .json, .html and .png; the quick version
writes all of it into WORK. A run that was killed goes on where it stood. The test split is measured and nothing is
chosen by it; ``--split val`` is for choosing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

LENGTHS = {"instance": (16, 32, 64, 128, 256, 512, 1024), "labels": (16, 32, 64, 128)}
SHARED = ("lsh", "sign", "median", "ubinary", "pca-itq", "rabitq")  # made for features that live in one space already
GREEDY = "cmssh"  # adds bit by bit, so that one fit gives every prefix
CERTAIN = ("cca-sign", "median", "scm-orth", "scm-seq", "sign", "ubinary")  # no seed changes them
# on features as large as a captioned data set's: the longest codes that are worth their fit, and what is learned from
LONGEST = {"cmfh": 256, "cmssh": 128, "fsh": 256}
SMALLER = {"cmfh": (("rows", 6000),), "cmssh": (("pairs", 4000),)}
# minutes a fit, and far below the best: of several seeds only the first
ONCE = {
    "instance": ("cmdn", "cmfh", "cmssh", "djsrh", "fsh", "ucch"),
    "labels": ("cmdn", "djsrh", "dsph", "ucch"),
}
QUICK_ITEMS = 300


def main() -> None:
    """Parse, compute what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a data set with captions, or an .npz of paired features")
    parser.add_argument("--name", help="of the data in tables (the name of the file, or of its folder)")
    parser.add_argument("--out", type=Path, help="where tables go (benchmarks/results; with --quick where cells go)")
    parser.add_argument("--work", type=Path, help="where cells go (runs/quality, runs/quality-quick)")
    parser.add_argument("--bits", type=_numbers, help="code lengths, such as 64,256")
    parser.add_argument("--methods", help="names, such as cca-itq,feature-hasher (all that fit)")
    parser.add_argument("--seeds", type=_numbers, default=(0,), help="such as 0,1,2; the mean is shown")
    parser.add_argument("--split", default="test", help="measured on; val while something is being chosen")
    parser.add_argument("--cache", type=Path, help="where computed features are kept (~/.cache/hashret)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch and numpy")
    parser.add_argument("--quick", action="store_true", help="few items, two lengths, one seed: about a minute")
    args = parser.parse_args()
    work = args.work or Path("runs/quality-quick" if args.quick else "runs/quality")
    out = args.out or (work if args.quick else Path("benchmarks/results"))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, str(args.threads))

    import torch
    from _machine import command_given
    from _quality_cells import CCA_FLOAT, NESTED, OWN, UNLABELLED, Cell, kept, run
    from _quality_data import load
    from _quality_tables import write

    import hashret
    from hashret._files import write_whole
    from hashret.baselines import BASELINES
    from hashret.feature_hasher import TRAINED

    torch.set_num_threads(args.threads)
    hashret.set_num_threads(args.threads)
    data = load(
        args.data, name=args.name, split=args.split, cache_dir=args.cache, limit=QUICK_ITEMS if args.quick else None
    )
    lengths = args.bits or ((16, 64) if args.quick else LENGTHS[data.relevance])
    seeds = args.seeds[:1] if args.quick else args.seeds
    alike = data.train.images.shape[1] == data.train.texts.shape[1]
    fitting = [name for name in BASELINES.names() if alike or name not in SHARED]
    trained = [*(name for name in TRAINED.names() if name != OWN), UNLABELLED]
    captions = data.relevance == "instance"
    if captions:
        fitting = [name for name in fitting if not getattr(BASELINES.load(name), "needs_labels", False)]
        trained = [name for name in trained if name != UNLABELLED and not TRAINED.load(name).needs_labels]
    chosen = args.methods.split(",") if args.methods else [*fitting, CCA_FLOAT, *trained, OWN]
    cells = []
    for method in chosen:
        longest = LONGEST.get(method, max(lengths)) if captions else max(lengths)
        fits = tuple(sorted(n_bits for n_bits in lengths if n_bits <= longest))
        options = SMALLER.get(method, ()) if captions and not args.quick else ()
        for seed in seeds:
            if seed != seeds[0] and method in (*CERTAIN, CCA_FLOAT, *ONCE[data.relevance]):
                continue
            if method in NESTED:
                cells.append(Cell(method, fits, seed, (("passes", 100),) if args.quick else ()))
            elif method == GREEDY:
                cells.append(Cell(method, fits, seed, options))
            elif method == CCA_FLOAT:
                cells.append(Cell(method, (), seed))
            else:
                cells += [Cell(method, (n_bits,), seed, options) for n_bits in fits]

    done = []
    for number, cell in enumerate(cells, start=1):
        known = kept(work, cell, data)
        begun = time.perf_counter()
        done.append(known or run(work, cell, data))
        took = "kept" if known else f"{time.perf_counter() - begun:.1f} s"
        print(f"[{number}/{len(cells)}] {cell.name}: {took}", flush=True)
    command = command_given()
    page = write(out, data, done, command=command, split=args.split)
    write_whole(page.with_suffix(".json"), json.dumps({"command": command, "cells": done}, indent=1) + "\n")
    print(page.read_text(encoding="utf-8"))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"give whole numbers, such as 64,256, and not {text!r}") from None


if __name__ == "__main__":
    import _command

    _command.run(main)
