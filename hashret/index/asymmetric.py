"""Asymmetric rescoring: a relaxed query against stored bits.

A query's relaxed code says how sure each of its bits is; the Hamming distance forgets that. So the nearest codes by
distance are taken with some to spare, and put in the order of the inner product of the relaxed query with their bits
as -1 and +1. Must not know which index found them.

*Source:* asymmetric distances for binary codes, Gordo, Perronnin, Gong, Lazebnik: Asymmetric Distances for Binary
Embeddings, TPAMI 2014, section 3. Rescoring of the nearest by distance: Yamada, Asai, Hajishirzi: Efficient Passage
Retrieval with Hashing for Open-domain Question Answering, ACL 2021; semantic_search in sentence-transformers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, as_array, bytes_for, pack
from hashret.errors import CodeError
from hashret.index.contract import CodeIndex
from hashret.kernels.contract import Distances, Hits, Mask, Rows, check_k, check_whole

_LARGEST = 1e30  # whose sums still are a float32
_CELLS = 1 << 21  # unpacked bits held at once: 16 MB as float64


class AsymmetricHits(NamedTuple):
    """Hits ordered by falling score, then by (distance, row); short rows are padded.

    Attributes:
        scores: (Q, k) float32, <relaxed, ±1 bits>, larger is nearer; padded with -inf.
        distances: (Q, k) int32; padded with -1.
        rows: (Q, k) int64; padded with -1.
    """

    scores: npt.NDArray[np.float32]
    distances: Distances
    rows: Rows


def check_relaxed(relaxed: npt.ArrayLike, *, n_bits: int) -> npt.NDArray[np.float64]:
    """Relaxed queries as (Q, n_bits) float64; a single one gives one row.

    Raises:
        CodeError: not floats, another width, or values that are not finite.
    """
    bytes_for(n_bits)
    values = np.atleast_2d(as_array(relaxed))
    if not np.issubdtype(values.dtype, np.floating):
        raise CodeError(f"relaxed queries must be floats, and these are {values.dtype}; search codes with search()")
    if values.ndim != 2 or values.shape[1] != n_bits:
        raise CodeError(f"relaxed queries must have the shape (Q, {n_bits}), not {values.shape}")
    if not (np.abs(values) <= _LARGEST).all():
        raise CodeError(f"the relaxed queries hold NaN or infinity, or values beyond ±{_LARGEST:g}; repair the encoder")
    return values.astype(np.float64)


def search_asymmetric(
    index: CodeIndex, relaxed: npt.ArrayLike, k: int, *, oversample: int = 4, mask: Mask | None = None
) -> AsymmetricHits:
    """Search any index with relaxed queries.

    Args:
        index: what finds the ``k * oversample`` nearest codes by distance.
        relaxed: (Q, n_bits) float queries; one (n_bits,) gives a one-row result.
        k: hits of a query, at least 1.
        oversample: how many times ``k`` candidates are scored, at least 1.
        mask: (N,) bool, True = may be found.

    Returns:
        (Q, k) scores, distances and rows.

    Raises:
        CodeError: the queries are no floats of this width, or hold NaN.
        InputError: ``k``, ``oversample`` or ``mask`` cannot be used.
    """
    values = check_relaxed(relaxed, n_bits=index.n_bits)
    k = check_k(k)
    oversample = check_whole(oversample, "oversample")
    hits = index.search(pack(values), max(k, min(k * oversample, len(index))), mask=mask)
    return rescore(values, hits, index.codes, n_bits=index.n_bits, k=k)


def rescore(relaxed: npt.ArrayLike, hits: Hits, codes: Codes, *, n_bits: int, k: int | None = None) -> AsymmetricHits:
    """Put hits into the order of their asymmetric scores.

    Args:
        relaxed: (Q, n_bits) float queries.
        hits: of the packed queries, (Q, m).
        codes: (N, n_bytes) uint8, what was searched.
        n_bits: width.
        k: how many to keep; None = all m.

    Returns:
        (Q, k) scores, distances and rows.

    Raises:
        CodeError: the queries are no floats of this width, or the hits are of other queries or codes.
    """
    values = check_relaxed(relaxed, n_bits=n_bits)
    rows = hits.rows
    if len(values) != len(rows):
        raise CodeError(f"{len(values)} relaxed queries do not belong to the hits of {len(rows)} queries")
    if rows.size and int(rows.max()) >= len(codes):
        raise CodeError(
            f"the hits name row {int(rows.max())}, and there are {len(codes):,} codes; give those that were searched"
        )
    scores = np.full(rows.shape, -np.inf, np.float32)
    step = max(1, _CELLS // max(1, rows.shape[1] * n_bits))
    for start in range(0, len(rows) if len(codes) else 0, step):
        part = rows[start : start + step]
        bits = np.unpackbits(codes[np.maximum(part, 0)], axis=2, count=n_bits)
        query = values[start : start + step]
        # sum over set bits twice, less the sum over all, is the product with -1 and +1
        product = 2 * np.einsum("qmb,qb->qm", bits, query, dtype=np.float64) - query.sum(axis=1, keepdims=True)
        scores[start : start + step] = np.where(part < 0, -np.inf, product)
    # hits come by (distance, row), and a stable sort keeps that order within equal scores
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return AsymmetricHits(
        np.take_along_axis(scores, order, axis=1),
        np.take_along_axis(hits.distances, order, axis=1),
        np.take_along_axis(rows, order, axis=1),
    )
