"""Does the modality adversary do what it claims? Probe accuracy and rSum with and without it, over seeds.

    python benchmarks/adversary.py --data flickr8k/captions.jsonl --out benchmarks/results/adversary.json

The same schedule runs with the adversary's weight at zero and above. On the test split, a fresh linear probe learns to
tell pictures from captions by their relaxed codes (50 % = it cannot), and beside it stands the cheap null: subtracting
each modality's median. A finished cell is kept, so that a rerun goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _command
import numpy as np
from _machine import command_given
from _systems_cells import MARK, digest_of, finished

from hashret._files import write_whole
from hashret.data import Dataset, open_dataset
from hashret.evaluation.figures import environment
from hashret.training import modality_report, read_config, train
from hashret.training.features import identity_of, pair_features, usable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adversary.json"))
    parser.add_argument("--runs", type=Path, default=Path("runs/adversary"))
    parser.add_argument("--config", default="hashret_adversary")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.1, 1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()

    dataset = open_dataset(args.data)
    cells = [_cell(args, dataset, weight, seed) for weight in args.weights for seed in args.seeds]
    content = {"cells": cells, "config": args.config, "command": command_given(), "environment": environment()}
    write_whole(args.out, json.dumps(content, indent=1) + "\n")
    page = "\n".join(_page(content)) + "\n"
    write_whole(args.out.with_suffix(".md"), page)
    print(page)


def _cell(args: argparse.Namespace, dataset: Dataset, weight: float, seed: int) -> dict[str, Any]:
    settings = [f"stages.{stage}.losses.adversary.top={weight}" for stage in ("classifier", "alternate")]
    config = read_config(args.config, [*settings, f"seed={seed}"])
    folder = args.runs / f"weight{weight:g}-seed{seed}-{digest_of(config)}"
    before = finished(folder, dataset)
    if before is not None:
        return before
    result = train(config, dataset, out=folder, resume=True)
    pairs = {
        split: pair_features(result.model, usable(dataset, split), cache_dir=None, label=split)
        for split in ("train", "test")
    }
    found = modality_report(result.model, pairs["test"], pairs["train"], seed=seed)
    cell = {
        "data": identity_of(dataset),
        "weight": weight,
        "seed": seed,
        "probe": found.probe.accuracy,
        "rSum": found.r_sum,
        "null probe": found.null_probe.accuracy,
        "null rSum": found.null_r_sum,
        "validation rSum": result.value,
    }
    write_whole(folder / MARK, json.dumps(cell))
    return cell


def _page(content: dict[str, Any]) -> Iterator[str]:
    """The lines of the page: what was measured, the table, where."""
    own = content["environment"]
    yield "# The modality adversary"
    yield ""
    yield (
        "One schedule with the adversary's weight at zero and above, on a test split. A fresh linear probe learns to "
        "tell pictures from captions by their relaxed codes: 50 % is chance, and what an adversary is for. Beside it "
        "stands the cheap null: each modality's median taken from its logits. Means over seeds ± their standard "
        "deviation; rSum of codes against codes, 600 is perfect."
    )
    yield ""
    yield (
        f"Written by `{content['command']}`, with the configuration {content['config']}; "
        f"{own['processor']}, {own['cores']} cores, {own['system']}, Python {own['python']}, "
        + ", ".join(f"{name} {own['packages'][name]}" for name in ("hashret", "numpy", "torch"))
        + "."
    )
    yield ""
    yield from _table(content["cells"])


def _table(cells: list[dict[str, Any]]) -> Iterator[str]:
    yield "| adversary's weight | probe accuracy, % | rSum | probe after the median null, % | rSum after it | seeds |"
    yield "|---|---|---|---|---|---|"
    for weight in sorted({cell["weight"] for cell in cells}):
        rows = [cell for cell in cells if cell["weight"] == weight]
        figures = (("probe", 100), ("rSum", 1), ("null probe", 100), ("null rSum", 1))
        shown = [_spread([scale * row[name] for row in rows]) for name, scale in figures]
        yield f"| {weight:g} | {' | '.join(shown)} | {len(rows)} |"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.1f}"


if __name__ == "__main__":
    _command.run(main)
