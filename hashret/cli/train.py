"""``hashret train``: learn a model as a configuration says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashret.data import Dataset
    from hashret.training import RunConfig, TrainResult

SUMMARY = "Learn a model from pairs of pictures and captions, as a configuration says."
EXAMPLES = (
    "hashret train configs/emoji.yaml --data emoji --out runs/emoji",
    "hashret train --data captions.jsonl --out runs/photos --seed 1",
    "hashret train --data captions.jsonl --out runs/wide --set stages.heads.lr=1e-4",
    "hashret train --data captions.jsonl --out runs/photos --resume",
    "hashret train miite --data captions.jsonl --out runs/miite --sweep seed=0,1,2 --sweep n_bits=64,256",
)
PRESET = "hashret"  # what measured best


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import DATA, add_reading_arguments

    parser.add_argument(
        "config", nargs="?", default=PRESET, help=f"a YAML file, or the name of one that comes with hashret ({PRESET})"
    )
    parser.add_argument("--data", required=True, help=DATA)
    parser.add_argument("--out", type=Path, required=True, help="the run's directory; the model lands in OUT/model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--seed", type=int, help="seed of the training (the configuration's)")
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=A,B,…",
        help="train at every combination of such settings, each in a folder of OUT; n_bits and seed are the usual ones",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in OUT")
    add_reading_arguments(parser)
    parser.add_argument("--cache", type=Path, help="where computed features are kept (~/.cache/hashret)")
    parser.add_argument("--device", default="auto")


def run(args: argparse.Namespace) -> None:
    """Train, and say where the model is."""
    from hashret.cli._common import open_data, quoted, readable
    from hashret.training import read_config, train

    settings = [*args.set, *([f"seed={args.seed}"] if args.seed is not None else [])]
    config = read_config(args.config, settings)
    dataset = readable(open_data(args), strict=args.strict)
    if args.sweep:
        _sweep(args, config, dataset)
        return
    result = train(config, dataset, out=args.out, resume=args.resume, cache_dir=args.cache, device=args.device)
    _draw(result)
    value = f"{config.selection.metric} {config.selection.sign * result.value:.1f}"
    print(f"best epoch: {result.epoch} of stage {result.stage}, validation {value}")
    model = args.out / "model"
    print(f"the model is in {model}; measure it with:")
    splits = quoted(args.out / "splits.json")
    print(f"  hashret eval {quoted(model)} --data {quoted(args.data)} --splits {splits} --split val")
    print("  (--split test is for the figure that you report: it is read once)")


def _draw(result: TrainResult) -> None:
    """The curves as pictures, beside the table of them."""
    from hashret.evaluation.plots import curves, save

    for plot in curves(result.curves).plots:
        save(plot, result.out / f"{plot.title.lower().replace(' ', '-').replace('@', '')}.png")


def _sweep(args: argparse.Namespace, config: RunConfig, dataset: Dataset) -> None:
    from hashret.training.sweep import sweep

    for point, result in sweep(config, args.sweep, dataset, out=args.out, cache_dir=args.cache, device=args.device):
        _draw(result)
        print(f"done: {', '.join(f'{key}={value}' for key, value in point)}")
    print((args.out / "sweep.md").read_text(encoding="utf-8"), end="")
