"""Rescoring: the nearest codes by Hamming distance, put into a finer order by a float query and the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.baselines.base import features_of
from hashret.codes import Codes, check_codes, unpack
from hashret.errors import InputError


def rescore(
    queries: ArrayLike, codes: Codes, candidates: NDArray[np.int64], *, n_bits: int, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best ``k`` of the candidates by ``⟨float query, bits⟩``; nothing but the codes is read.

    Unpacked bits 0 and 1 give the same order as -1 and 1, since the difference is the same for all items of a query.
    Fetch k times 2 to 4 candidates by Hamming distance.

    Args:
        queries: (Q, n_bits) float, the vectors whose signs are the codes of the queries.
        codes: (N, n_bytes) uint8, what was searched.
        candidates: (Q, R) int64 rows of codes, -1 where there is none.
        n_bits: length of the codes.
        k: hits to keep.

    Returns:
        Scores (Q, k) float32 and rows (Q, k) int64, best first, ties by row; padded with minus infinity and -1.

    Raises:
        CodeError: codes of the wrong width.
        InputError: queries or candidates that do not fit.

    *Source:* Yamada, Asai and Hajishirzi, "Efficient passage retrieval with hashing for open-domain question
    answering", ACL 2021; semantic_search with rescoring in sentence-transformers.
    """
    codes = check_codes(codes, n_bits=n_bits)
    values, rows = features_of(queries, "queries"), np.asarray(candidates, dtype=np.int64)
    if values.shape[1] != n_bits or rows.ndim != 2 or len(rows) != len(values) or k < 1:
        raise InputError(
            f"rescoring takes queries (Q, {n_bits}), candidates (Q, R) and k of at least 1, not shapes "
            f"{values.shape} and {rows.shape} and k = {k}"
        )
    if rows.size and (rows.max() >= len(codes) or rows.min() < -1):
        raise InputError(f"candidates hold rows from {rows.min()} to {rows.max()}, and there are {len(codes):,} codes")
    scores = np.full((len(values), k), -np.inf, dtype=np.float32)
    best = np.full((len(values), k), -1, dtype=np.int64)
    for i, (query, found) in enumerate(zip(values, rows)):
        found = np.unique(found[found >= 0])
        points = (unpack(codes[found], n_bits=n_bits) @ query).astype(np.float32)
        order = np.argsort(-points, kind="stable")[:k]
        scores[i, : len(order)], best[i, : len(order)] = points[order], found[order]
    return scores, best
