"""Curves over a ranking: precision and recall over radii, 11-point interpolated precision, precision at N.

The same streaming histograms as the measures; knows nothing of drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.codes import Codes, check_codes
from hashret.errors import DataError, InputError
from hashret.evaluation.buckets import Buckets, rank_codes
from hashret.evaluation.instance import Ties, check_ties
from hashret.evaluation.relevance import Relevance, relevance

Floats = NDArray[np.float64]
Average = Literal["macro", "micro"]

RECALLS = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True)
class RadiusCurve:
    """Hash lookup: everything within a radius is retrieved.

    Attributes:
        radius: (n_bits + 1,) 0 … n_bits.
        precision: relevant share of what was retrieved; 0 for an empty ball.
        recall: share of the relevant that was retrieved.
        empty: share of queries with an empty ball.
        average: "macro" is the mean over queries, "micro" pools all (query, item) pairs.
        n_without: queries without a relevant item; they have no recall, and are left out of the macro recall.
    """

    radius: NDArray[np.int64]
    precision: Floats
    recall: Floats
    empty: Floats
    average: str
    n_without: int


@dataclass(frozen=True)
class RecallCurve:
    """11-point interpolated precision.

    Attributes:
        recall: (11,) 0, 0.1 … 1.
        precision: mean over queries of the best precision at that recall or above.
        n_without: queries without a relevant item; they count as 0.
    """

    recall: Floats
    precision: Floats
    n_without: int


def radius_curve(
    query_codes: Codes,
    db_codes: Codes,
    query_labels: ArrayLike,
    db_labels: ArrayLike,
    *,
    n_bits: int,
    average: Average = "macro",
) -> RadiusCurve:
    """Precision and recall within each Hamming radius; ties do not matter.

    Args:
        query_codes: (Q, n_bytes) uint8.
        db_codes: (N, n_bytes) uint8.
        query_labels: (Q,) or (Q, C).
        db_labels: (N,) or (N, C).
        n_bits: length of the codes.
        average: "macro" or "micro".

    Raises:
        CodeError: codes of the wrong width.
        DataError: labels that do not fit, or nothing to measure.
        InputError: another way of averaging.
    """
    if average not in get_args(Average):
        raise InputError(f"a curve is averaged over queries ('macro') or over pairs ('micro'), not {average!r}")
    relevant, queries, items = _checked(query_codes, db_codes, query_labels, db_labels, n_bits)
    precision, recall, empty, hits, found = np.zeros((5, n_bits + 1))
    answerable, total = 0, 0
    for ranked in rank_codes(queries, items, relevant, n_bits=n_bits, ties="expected"):
        inside = np.cumsum(ranked.by_rank.items, axis=1)
        correct = np.cumsum(ranked.by_rank.relevant, axis=1)
        known = correct[:, -1] > 0
        precision += (correct / np.maximum(inside, 1)).sum(axis=0)
        recall += (correct[known] / correct[known, -1:]).sum(axis=0)
        empty += (inside == 0).sum(axis=0)
        hits, found = hits + correct.sum(axis=0), found + inside.sum(axis=0)
        answerable, total = answerable + int(known.sum()), total + int(correct[:, -1].sum())
    if average == "micro":
        precision, recall = hits / np.maximum(found, 1), hits / max(total, 1)
    else:
        precision, recall = precision / len(queries), recall / max(answerable, 1)
    return RadiusCurve(
        np.arange(n_bits + 1), precision, recall, empty / len(queries), average, len(queries) - answerable
    )


def recall_curve(
    query_codes: Codes,
    db_codes: Codes,
    query_labels: ArrayLike,
    db_labels: ArrayLike,
    *,
    n_bits: int,
    ties: Ties = "expected",
) -> RecallCurve:
    """Interpolated precision at recall 0, 0.1 … 1, the mean over queries.

    With ``ties="expected"`` the items at one distance are retrieved together, as a lookup does: the expected maximum
    over orders has no closed form. With "optimistic", "pessimistic" and "stable" the curve is that of the ranking.

    Args:
        query_codes: (Q, n_bytes) uint8.
        db_codes: (N, n_bytes) uint8.
        query_labels: (Q,) or (Q, C).
        db_labels: (N,) or (N, C).
        n_bits: length of the codes.
        ties: the tie order.

    Raises:
        CodeError: codes of the wrong width.
        DataError: labels that do not fit, or nothing to measure.

    *Source:* Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, 2008, section 8.4.
    """
    check_ties(ties)
    relevant, queries, items = _checked(query_codes, db_codes, query_labels, db_labels, n_bits)
    total, without = np.zeros(len(RECALLS)), 0
    for ranked in rank_codes(queries, items, relevant, n_bits=n_bits, ties=ties):
        total += _interpolated(ranked.by_rank).sum(axis=0)
        without += int((ranked.by_rank.n_relevant == 0).sum())
    return RecallCurve(RECALLS, total / len(queries), without)


def _interpolated(buckets: Buckets) -> Floats:
    """(q, 11). Within a pure bucket precision only rises or only falls, so the ends of buckets hold the maxima."""
    inside, correct = np.cumsum(buckets.items, axis=1), np.cumsum(buckets.relevant, axis=1)
    precision = correct / np.maximum(inside, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # the best from here on
    needed = RECALLS * correct[:, -1:] - 1e-9  # (q, 11); rounding must not ask for one item more
    first = (correct[:, :, None] >= needed[:, None, :]).argmax(axis=1)
    return np.where(correct[:, -1:] > 0, np.take_along_axis(best, first, axis=1), 0.0)


def _checked(
    query_codes: Codes, db_codes: Codes, query_labels: ArrayLike, db_labels: ArrayLike, n_bits: int
) -> tuple[Relevance, Codes, Codes]:
    queries = check_codes(query_codes, n_bits=n_bits, what="query codes")
    items = check_codes(db_codes, n_bits=n_bits, what="database codes")
    relevant = relevance(query_labels, db_labels)
    if (relevant.n_queries, relevant.n_items) != (len(queries), len(items)) or not len(queries) or not len(items):
        raise DataError(
            f"there are {len(queries):,} query codes and {len(items):,} database codes, and labels of "
            f"{relevant.n_queries:,} and {relevant.n_items:,}; they must agree, and none may be empty"
        )
    return relevant, queries, items
