"""What is measured after each epoch on the validation split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hashret.codes import Codes, pack, prefix
from hashret.encoders import Encoded
from hashret.evaluation import Retrieval, evaluate_codes, evaluate_floats
from hashret.model import CrossModalHasher
from hashret.training.config import Selection
from hashret.training.pairs import FeatureTable, PairFeatures


@dataclass(frozen=True)
class Validation:
    """The figures of one epoch.

    Args:
        value: what epochs are chosen by, higher is better.
        figures: columns of the curves: R@K of codes against codes, rSum of the float vectors, mean entropy of signs.
    """

    value: float
    figures: dict[str, float]


def logits_of(hasher: CrossModalHasher, modality: str, table: FeatureTable, *, batch_size: int = 1024) -> np.ndarray:
    """(N, n_bits) float32 logits of a whole table."""
    parts = [output.logits.cpu().numpy() for output in hasher.project(modality, batches(table, batch_size=batch_size))]
    return np.concatenate(parts)


def batches(table: FeatureTable, *, batch_size: int = 1024) -> Iterator[Encoded]:
    """A whole table, in order."""
    for begin in range(0, len(table), batch_size):
        yield table.batch(torch.arange(begin, min(begin + batch_size, len(table))))


def validate(hasher: CrossModalHasher, pairs: PairFeatures, selection: Selection) -> Validation:
    """Measure ``hasher`` on ``pairs``."""
    images, texts = logits_of(hasher, "image", pairs.image), logits_of(hasher, "text", pairs.text)
    lengths = selection.lengths or (hasher.n_bits,)
    # a NaN is no 1 here: the loss tells of it
    codes = pack(hasher.relaxed_of("image", images) > 0), pack(hasher.relaxed_of("text", texts) > 0)
    results = {n_bits: _at(codes, pairs.owners, n_bits) for n_bits in lengths}
    figures = {f"rSum@{n_bits}": result.r_sum for n_bits, result in results.items()}
    longest = results[max(results)].to_dict()
    figures |= {f"{way}.R@{k}": float(longest[way][f"R@{k}"]) for way in ("i2t", "t2i") for k in (1, 5, 10)}
    figures["float.rSum"] = evaluate_floats(images, texts, pairs.owners).r_sum
    # of each modality: codes that tell pictures from texts and nothing else are even over both together
    figures["entropy"] = min(bit_entropy(images > 0), bit_entropy(texts > 0))
    value = selection.sign * float(
        np.mean([_lookup(result.to_dict(), selection.metric) for result in results.values()])
    )
    return Validation(value, figures)


def bit_entropy(bits: np.ndarray) -> float:
    """The mean entropy of the columns of (N, n_bits) bool, in bits: 1 is best, 0 a collapsed code."""
    ones = bits.mean(axis=0, dtype=np.float64)
    shares = np.clip(np.stack([ones, 1 - ones]), 1e-12, 1)
    return float(-(shares * np.log2(shares)).sum(axis=0).mean())


def _at(codes: tuple[Codes, Codes], owner: np.ndarray, n_bits: int) -> Retrieval:
    images, texts = (prefix(whole, n_bits=n_bits) for whole in codes)
    return evaluate_codes(images, texts, owner, n_bits=n_bits)


def _lookup(figures: dict[str, Any], metric: str) -> float:
    value: Any = figures
    for key in metric.split("."):
        value = value[key]
    return float(value)
