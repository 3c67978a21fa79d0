"""What the tests of collections share: codes, and the truth by brute force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection


@pytest.fixture
def codes() -> Callable[..., np.ndarray]:
    """Random codes of few distinct values, so that ties are the rule: codes(count, n_bits=16, seed=0)."""

    def make(count: int, n_bits: int = 16, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        bits = rng.integers(0, 2, (count, n_bits)) & (rng.random((count, n_bits)) < 0.7)
        return np.packbits(bits.astype(bool), axis=1)

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a collection can be made."""
    return tmp_path / "photos.hashret"


@pytest.fixture
def nearest() -> Callable[..., tuple[list[object], list[int]]]:
    """The truth: nearest(collection, query, k, keep=None) -> ids and distances by brute force, from what it holds."""

    def search(
        collection: Collection, query: np.ndarray, k: int, keep: Callable[[dict[str, object]], bool] | None = None
    ) -> tuple[list[object], list[int]]:
        items = collection.get(list(collection))
        found = [
            (int(np.bitwise_count(code ^ query).sum()), at)
            for at, (code, metadata) in enumerate(zip(items.codes, items.metadata))
            if keep is None or keep(metadata)
        ]
        found.sort()
        ids = [items.ids[at] for _, at in found[:k]]
        distances = [distance for distance, _ in found[:k]]
        return ids + [None] * (k - len(ids)), distances + [-1] * (k - len(distances))

    return search
