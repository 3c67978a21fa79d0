"""``hashret export``: a model as ONNX graphs, for queries without torch."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hashret._lazy import require
from hashret.errors import DataError, InputError

if TYPE_CHECKING:
    from hashret.data import Dataset
    from hashret.model import CrossModalHasher
    from hashret.onnx.export import Exported

SUMMARY = (
    "Write a model as ONNX graphs, so that searching needs onnxruntime and no torch; the codes are compared first."
)
EXAMPLES = (
    "hashret export model/ --onnx",
    "hashret export model/ --onnx --int8 --data captions.jsonl --split val",
)
COMPARED = 256  # items of each modality whose codes are compared, where data are given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments

    parser.add_argument("model", type=Path, help="the directory of a model")
    parser.add_argument("--onnx", action="store_true", help="the format: the only one, and so what is written without")
    parser.add_argument("--int8", action="store_true", help="8-bit weights for transformers: a quarter of the size")
    parser.add_argument("--out", type=Path, help="the directory to make (MODEL/onnx, where searching looks for it)")
    add_data_arguments(parser, split="val", required=False)


def run(args: argparse.Namespace) -> None:
    """Export, compare, and with data measure what it costs."""
    from hashret.cli._common import given_of_data

    given = given_of_data(args) if args.data is None else []
    if given:
        raise InputError(f"{' and '.join(given)} belongs to a data set; name it with --data, or leave it out")
    require("torch", extra="export")
    from hashret.model import CrossModalHasher
    from hashret.onnx.export import default_out, export_model

    dataset = None if args.data is None else _dataset(args)
    hasher = CrossModalHasher.load(args.model, device="cpu")
    images = [record.image for record in dataset.records[:COMPARED]] if dataset else ()
    texts = list(itertools.islice(_texts(dataset), COMPARED)) if dataset else ()
    out = args.out or default_out(args.model)
    exported = export_model(hasher, out, int8=args.int8, images=images, texts=texts)
    print(f"{exported.n_bytes / 1e6:.1f} MB of {exported.precision} in {exported.directory}")
    for modality, share in exported.differing.items():
        print(f"{share:.3%} of the bits of {exported.compared[modality]} {modality}s differ from torch's")
    if dataset is not None:
        print(cost(hasher, exported, dataset))


def cost(hasher: CrossModalHasher, exported: Exported, dataset: Dataset) -> str:
    """A table of the rSum of the model's codes and of those of its export, at each code length.

    A collection keeps the codes that it was made with: ``mixed`` is what queries of the export find among items of the
    model.
    """
    import numpy as np

    from hashret.codes import prefix
    from hashret.evaluation import evaluate_codes
    from hashret.onnx import OnnxHasher

    owner = np.repeat(np.arange(len(dataset)), [len(record.captions) for record in dataset])
    images = [record.image for record in dataset]
    texts = list(_texts(dataset))
    loaded = OnnxHasher.load(exported.directory)
    ours = hasher.encode_images(images), hasher.encode_texts(texts)
    theirs = loaded.encode_images(images), loaded.encode_texts(texts)
    lines = [
        f"rSum of {len(images):,} pictures and {len(texts):,} captions",
        f"{'':<34}{'torch':>8}{'export':>8}{'mixed':>8}",
    ]
    for n_bits in hasher.code_lengths:
        old_images, old_texts = (prefix(part, n_bits=n_bits) for part in ours)
        new_images, new_texts = (prefix(part, n_bits=n_bits) for part in theirs)
        old = evaluate_codes(old_images, old_texts, owner, n_bits=n_bits)
        new = evaluate_codes(new_images, new_texts, owner, n_bits=n_bits)
        mixed_t2i = evaluate_codes(old_images, new_texts, owner, n_bits=n_bits).t2i
        mixed_i2t = evaluate_codes(new_images, old_texts, owner, n_bits=n_bits).i2t
        mixed = sum(way.r1 + way.r5 + way.r10 for way in (mixed_i2t, mixed_t2i))
        lines.append(f"{f'{n_bits} bits':<34}{old.r_sum:>8.1f}{new.r_sum:>8.1f}{mixed:>8.1f}")
    return "\n".join(lines)


def _dataset(args: argparse.Namespace) -> Dataset:
    """The records of the split that have captions, and a picture that can be read."""
    from hashret.cli._common import open_split, readable, split_of

    found = open_split(args)
    captioned = found.subset(row for row, record in enumerate(found) if record.captions)
    if not len(captioned):
        split = split_of(args)
        which = f"split {split!r} of {found.name!r}" if split else repr(found.name)
        raise DataError(
            f"no record of {which} has a caption, and the cost of an export is measured on pictures and captions; "
            "give other data or another --split, or leave --data out"
        )
    return readable(captioned, strict=args.strict)


def _texts(dataset: Dataset) -> Iterator[str]:
    return (text for record in dataset for text in record.captions)
