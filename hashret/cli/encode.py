"""``hashret encode``: pictures or captions into a .npy file of packed codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "Encode the pictures (or the captions) of a data set into packed codes, a .npy file with the ids beside it."
EXAMPLES = (
    "hashret encode model/ --data ./photos --out codes.npy",
    "hashret encode model/ --data captions.jsonl --split test --modality text --n-bits 256 --out codes.npy",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from hashret.cli._common import add_data_arguments, add_encoding_arguments

    parser.add_argument("model", help="the directory of a model")
    add_data_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="the .npy file to write")
    add_encoding_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Encode and write ``codes.npy``, (N, n_bytes) uint8, and ``codes.ids.json`` beside it, where OUT is codes.npy."""
    import numpy as np

    from hashret._files import whole_file
    from hashret.cli._common import check_target, items_of, open_split
    from hashret.engine import open_model
    from hashret.errors import InputError

    check_target(args.out)
    if args.out.suffix != ".npy":  # two of other names could have their ids at one place
        raise InputError(f"--out names a .npy file, such as codes.npy, and not {str(args.out)!r}")
    ids_path = args.out.with_suffix(".ids.json")
    check_target(ids_path)
    model = open_model(args.model, device=args.device)
    ids, items = items_of(open_split(args), args.modality, strict=args.strict)
    codes = model.encode(args.modality, items, n_bits=args.n_bits, batch_size=args.batch_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(ids_path) as ids_file, whole_file(args.out) as codes_file:  # neither is replaced before both fit
        ids_file.write(json.dumps(ids, ensure_ascii=False).encode())
        ids_file.flush()
        np.save(codes_file, codes)
    print(f"{len(codes)} codes of {args.n_bits or model.n_bits} bits in {args.out}, their ids in {ids_path}")
