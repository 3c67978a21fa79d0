"""Sample hits, good and bad, drawn by a seed and not chosen.

    good   the first item is surely correct (no wrong one at its distance)
    bad    no correct item is expected among the first ten

Knows codes and records with pictures and captions; nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hashret.data import Dataset
from hashret.evaluation.coded import Coded
from hashret.evaluation.instance import evaluate_codes
from hashret.evaluation.retrieval import Direction, Retrieval
from hashret.evaluation.sections import Gallery, Hit, Query
from hashret.kernels import hamming

N_QUERIES, N_HITS = 4, 6
TOO_FAR = 10


def galleries(coded: Coded, result: Retrieval, dataset: Dataset, *, n_bits: int, seed: int = 0) -> tuple[Gallery, ...]:
    """Up to four galleries: each direction, good and bad; one that would be empty is left out.

    Args:
        coded: the codes.
        result: their retrieval at ``n_bits``.
        dataset: the records behind the codes: row i of the pictures is record i, captions in order.
        n_bits: the length to search with.
        seed: of the draw.
    """
    captions, owner = dataset.captions_flat()
    images, texts = coded.at(n_bits)
    if result.ties != "expected":  # of one order of ties nothing can be said for sure
        result = evaluate_codes(images, texts, owner, n_bits=n_bits)
    found = []
    for good in (True, False):
        rows, note = _drawn(result.t2i, good=good, what="captions", seed=seed)
        if len(rows):
            shown = []
            for row, distances in zip(rows, hamming(texts[rows], images)):
                record = dataset[int(owner[row])]
                hits = tuple(
                    Hit(dataset[item].image, dataset[item].captions[0], int(distances[item]), item == owner[row])
                    for item in _nearest(distances)
                )
                shown.append((Query(captions[row], None if good else record.image), hits))
            note += "" if good else " Above the words, the picture that they belong to."
            found.append(Gallery(f"Words that find {'their picture' if good else 'others'}", tuple(shown), note))
    for good in (True, False):
        rows, note = _drawn(result.i2t, good=good, what="pictures", seed=seed)
        if len(rows):
            shown = []
            for row, distances in zip(rows, hamming(images[rows], texts)):
                record = dataset[int(row)]
                hits = tuple(
                    Hit(None, captions[item], int(distances[item]), bool(owner[item] == row))
                    for item in _nearest(distances)
                )
                shown.append((Query("" if good else record.captions[0], record.image), hits))
            note += "" if good else " Below the picture, its first caption."
            found.append(Gallery(f"Pictures that find {'their words' if good else 'others'}", tuple(shown), note))
    return tuple(found)


def _drawn(direction: Direction, *, good: bool, what: str, seed: int) -> tuple[NDArray[np.int64], str]:
    """Rows of queries, and where they were drawn from."""
    if good:
        pool = np.flatnonzero(direction.per_query["R@1"] >= 1 - 1e-9)
        which = "that surely find a correct item first"
    else:
        pool = np.flatnonzero(direction.per_query["rank"] > TOO_FAR)
        which = f"whose first correct item is expected after rank {TOO_FAR}"
    rows = np.random.default_rng(seed).permutation(pool)[:N_QUERIES]
    return rows, f"Drawn at random from the {len(pool):,} of {direction.n_queries:,} {what} {which}."


def _nearest(distances: NDArray[np.int32]) -> Iterator[int]:
    """Rows by (distance, row)."""
    return (int(row) for row in np.argsort(distances, kind="stable")[:N_HITS])
