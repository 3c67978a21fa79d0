"""``hashret eval``: measure a model on a split, codes beside floats and chance."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashret.training.measure import Measured

SUMMARY = "Measure retrieval on a split: codes at each length, the float model, and chance; ties by expectation."
EXAMPLES = (
    "hashret eval model/ --data captions.jsonl --split test",
    "hashret eval model/ --data captions.jsonl --split val --bits 64,256 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments

    parser.add_argument("model", help="the directory of a model")
    add_data_arguments(parser, split="test")
    parser.add_argument(
        "--bits", type=_lengths, help="code lengths, such as 64,256 (every one that the model was trained for)"
    )
    parser.add_argument("--again", action="store_true", help="read the test split of a run once more, on the record")
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file as well")
    parser.add_argument("--cache", type=Path, help="where computed features are kept (~/.cache/hashret)")
    parser.add_argument("--device", default="auto")


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    from hashret._files import write_whole
    from hashret.cli._common import open_split, readable
    from hashret.evaluation.once import TestOnce
    from hashret.model import CrossModalHasher
    from hashret.training.measure import measure

    model = CrossModalHasher.load(args.model, device=args.device)
    dataset = readable(open_split(args), strict=args.strict)
    measured = measure(model, dataset, code_lengths=args.bits, cache_dir=args.cache)
    run_dir = Path(args.model).resolve().parent
    if args.split == "test" and (run_dir / "checkpoints").is_dir():
        TestOnce(run_dir).claim(checksum=dataset.fingerprint, again=args.again)  # before anybody looks
    content = {
        "model": str(args.model), "data": str(args.data), "split": args.split, **measured.to_dict(),
        "command": shlex.join(["hashret", *sys.argv[1:]]),
    }  # fmt: skip
    text = json.dumps(content, ensure_ascii=False, indent=2)
    if args.out:
        write_whole(args.out, text)
    print(text if args.json else table(measured))


def table(measured: Measured) -> str:
    """The figures as lines of text."""
    head = (
        f"{'':<22}{'bytes':>6}  {'i2t R@1':>7} {'R@5':>5} {'R@10':>5}  "
        f"{'t2i R@1':>7} {'R@5':>5} {'R@10':>5}  {'rSum':>6}"
    )
    lines = [f"{measured.n_images:,} pictures, {measured.n_captions:,} captions", head]
    for row in measured.rows():
        bytes_an_item = f"{row.bytes_an_item:,}" if row.bytes_an_item else ""
        i2t, t2i = row.i2t, row.t2i
        lines.append(
            f"{row.name:<22}{bytes_an_item:>6}  {i2t[0]:>7.1f} {i2t[1]:>5.1f} {i2t[2]:>5.1f}  "
            f"{t2i[0]:>7.1f} {t2i[1]:>5.1f} {t2i[2]:>5.1f}  {row.r_sum:>6.1f}"
        )
    for name, value in measured.labels.items():
        lines.append(f"{name:<40} {value:.4f}")
    return "\n".join(lines)


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"code lengths read 64,256 and not {text!r}") from None
