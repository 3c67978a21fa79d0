"""Codes of a trained model for the search benchmark: pictures' to be searched, captions' to search with.

    python benchmarks/trained_codes.py --data captions.jsonl --out runs/trained.npy
    python benchmarks/search.py --kinds runs/trained.npy --n 1e5 1e6

A ``FeatureHasher`` learns nested codes of 64, 128 and 256 bits from the training split, on features of frozen
encoders. An index is timed with more pictures than there are: beside all pictures of the training split stand
mixtures of the features of two of them, with random weights. The last rows are captions of the test split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _command
import numpy as np
from _quality_data import load
from search import QUERIES

from hashret import FeatureHasher
from hashret._files import whole_file

LENGTHS = (64, 128, 256)
ROWS = 1 << 14  # encoded at a time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="what hashret.data.open_dataset takes, or an .npz of features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=lambda x: int(float(x)), default=1_000_000, help="codes to be searched")
    parser.add_argument("--passes", type=int, help="of training (as FeatureHasher)")
    args = parser.parse_args()

    features = load(args.data, split="test", cache_dir=None)
    train, rng = features.train, np.random.default_rng(0)
    chosen = rng.permutation(len(features.test.texts))[:QUERIES]
    if len(chosen) < QUERIES:
        raise SystemExit(f"the test split of {args.data} has {len(chosen):,} texts, and {QUERIES:,} are searched with")
    hasher = FeatureHasher(n_bits=max(LENGTHS), code_lengths=LENGTHS, passes=args.passes)
    hasher.fit(train.images, train.texts, owner=train.owner)
    parts = [hasher.encode_images(train.images)[: args.n]]
    for start in range(len(parts[0]), args.n, ROWS):
        count = min(ROWS, args.n - start)
        one, other = (train.images[rng.integers(0, len(train.images), count)] for _ in range(2))
        share = rng.random((count, 1), np.float32)
        parts.append(hasher.encode_images(share * one + (1 - share) * other))
    parts.append(hasher.encode_texts(features.test.texts[chosen]))
    codes = np.concatenate(parts)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(args.out) as file:
        np.save(file, codes)
    print(f"{len(codes) - len(chosen):,} codes and {len(chosen):,} queries of {max(LENGTHS)} bits in {args.out}")


if __name__ == "__main__":
    _command.run(main)
