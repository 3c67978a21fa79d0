"""Category retrieval: items that share a label are relevant; any set of named measures in one pass.

Works on codes or float features and labels, streaming over the database; knows nothing of models or data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.codes import Codes, check_codes
from hashret.errors import DataError, InputError
from hashret.evaluation.buckets import Ranked, TieOrder, rank_codes, rank_scores
from hashret.evaluation.instance import check_ties, unit_rows
from hashret.evaluation.measures import Measure, parse
from hashret.evaluation.relevance import Relevance, relevance
from hashret.registry import nearest

Floats = NDArray[np.float64]
Unanswerable = Literal["zero", "drop", "drop-zero"]

MEASURES = ("AP@all", "AP(norm=min)@50", "NDCG@100", "P@100", "P@H<=2", "Empty@H<=2")


@dataclass(frozen=True)
class Scores:
    """What was measured.

    Attributes:
        values: the number of each measure, by its full name, AP and its like in 0…1.
        n_queries: all queries.
        n_without: queries that no item is relevant to.
        n_items: size of the database.
        n_bits: length of the codes, None for float features.
        ties: how items at one distance were ordered.
        unanswerable: what became of queries without a relevant item, see ``evaluate_labels``.
        per_query: (n_queries,) float64 by name, NaN where a query has no value.
    """

    values: Mapping[str, float]
    n_queries: int
    n_without: int
    n_items: int
    n_bits: int | None
    ties: str
    unanswerable: str
    per_query: Mapping[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, measure: str | Measure) -> float:
        """The number of a measure, by name or value."""
        return self.values[str(parse(measure))]

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        return {
            **self.values,
            "n_queries": self.n_queries,
            "n_without": self.n_without,
            "n_items": self.n_items,
            "n_bits": self.n_bits,
            "ties": self.ties,
            "unanswerable": self.unanswerable,
        }


@dataclass(frozen=True)
class Convention:
    """How a published code base computes the number that it calls mAP.

    Attributes:
        measure: with ``{k}`` for the cut; ``whole`` is used without one.
        unanswerable: what it does with queries that have no relevant item, see ``evaluate_labels``.
        ties: it sorts by distance; the order of ties that its sort leaves, by row.
        differs: what its cut average precision does, in words that follow "it".
        tied: how it takes ties, in words that follow "takes tied items".
    """

    measure: str
    differs: str
    unanswerable: Unanswerable = "zero"
    ties: TieOrder = "stable"
    tied: str = "as a stable sort leaves them"
    whole: str = "AP@all"


_FOUND = (
    "divides by the relevant items found within the cut, so that a query which finds one scores like one that finds all"
)

CONVENTIONS: Mapping[str, Convention] = {
    "deephash": Convention("AP(norm=found)@{k}", _FOUND),
    "dchmt": Convention("AP(norm=first)@{k}", "averages over the first relevant items, wherever they rank"),
    "ucch": Convention("AP(norm=found)@{k}", _FOUND, unanswerable="drop-zero"),
    "trec": Convention(
        "AP(norm=all)@{k}",
        "divides by all relevant items, also by those that no cut has room for",
        ties="reversed",
        tied="by document name, descending, rows counting as names",
    ),
}


def reproduce(name: str, *, cut: int | None = None) -> dict[str, Any]:
    """Arguments for ``evaluate_labels`` that give the number which another code base would have given.

    Args:
        name: "deephash" (DeepHash-pytorch's CalcTopMap), "dchmt" (calc_map_k), "ucch", or "trec" (trec_eval's map,
            map_cut).
        cut: its top-k; None for the whole ranking.

    Returns:
        ``measures``, ``ties`` and ``unanswerable``. Their sorts differ in how they leave ties; "stable" is what the
        stable ones do, and what the others do on average when the database is shuffled. trec_eval takes tied items by
        document name, descending: "reversed" is that, where names sort as rows do (d00000, d00001, …).

    Raises:
        InputError: no such convention.
    """
    convention = _convention(name)
    measure = convention.whole if cut is None else convention.measure.format(k=cut)
    return {"measures": (measure,), "ties": convention.ties, "unanswerable": convention.unanswerable}


def difference(name: str, *, cut: int | None = None) -> str:
    """What the number of another code base does otherwise than the standard one, as a sentence.

    Args:
        name: as for ``reproduce``.
        cut: its top-k; None for the whole ranking.

    Raises:
        InputError: no such convention.
    """
    convention = _convention(name)
    ways = [f"takes tied items {convention.tied}, where the standard averages over all orders"]
    if cut is not None:
        ways.insert(0, convention.differs)
    if convention.unanswerable != "zero":
        ways.append("leaves out queries that found nothing, where the standard counts them as 0")
    return f"{name} {'; '.join(ways)}."


def standard(cut: int | None) -> str:
    """The name of the standard measure that published ones are set beside."""
    return "AP@all" if cut is None else f"AP(norm=min)@{cut}"


def _convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        raise InputError(f"there is no convention {name!r}{nearest(name, tuple(CONVENTIONS))}")
    return CONVENTIONS[name]


def evaluate_labels(
    query_codes: Codes,
    db_codes: Codes,
    query_labels: ArrayLike,
    db_labels: ArrayLike,
    *,
    n_bits: int,
    measures: Sequence[str | Measure] = MEASURES,
    ties: TieOrder = "expected",
    unanswerable: Unanswerable = "zero",
) -> Scores:
    """Hamming retrieval of items that share a label with the query.

    Args:
        query_codes: (Q, n_bytes) uint8.
        db_codes: (N, n_bytes) uint8.
        query_labels: (Q,) one label each, or (Q, C) multi-hot.
        db_labels: (N,) or (N, C).
        n_bits: length of the codes.
        measures: names or values, see ``hashret.evaluation.measures``.
        ties: "expected" over all tie orders, "optimistic", "pessimistic", "stable" (by row) or "reversed" (by row, the
            last first).
        unanswerable: whether queries without a relevant item count as "zero" or are left out ("drop"); "drop-zero"
            leaves out whatever scored 0, within a cut. They are counted in every case, and never have a rank.

    Raises:
        CodeError: codes of the wrong width.
        DataError: labels that do not fit the codes, or nothing to search or to ask.
        InputError: an unknown measure or tie order.
    """
    query_codes = check_codes(query_codes, n_bits=n_bits, what="query codes")
    db_codes = check_codes(db_codes, n_bits=n_bits, what="database codes")
    chosen = _measures(measures, ties)
    relevant = _relevance(query_labels, db_labels, chosen, len(query_codes), len(db_codes))
    ranked = rank_codes(query_codes, db_codes, relevant, n_bits=n_bits, ties=ties)
    return _score(ranked, relevant, chosen, ties=ties, unanswerable=unanswerable, n_bits=n_bits)


def evaluate_labels_floats(
    query_features: ArrayLike,
    db_features: ArrayLike,
    query_labels: ArrayLike,
    db_labels: ArrayLike,
    *,
    measures: Sequence[str | Measure] = MEASURES[:4],
    ties: TieOrder = "expected",
    unanswerable: Unanswerable = "zero",
) -> Scores:
    """The same by cosine of float features; for relaxed queries against stored codes give these as -1 and 1.

    Args:
        query_features: (Q, D) float; normalised here.
        db_features: (N, D) float.
        query_labels: (Q,) or (Q, C).
        db_labels: (N,) or (N, C).
        measures: names or values; those with a Hamming radius make no sense here.
        ties: the tie order; cosines within 2e-6 are ties.
        unanswerable: as in ``evaluate_labels``.

    Raises:
        DataError: shapes that do not fit, or values that are not finite.
        InputError: an unknown measure or tie order, or a measure with a Hamming radius.
    """
    queries, items = unit_rows(query_features, "query features"), unit_rows(db_features, "database features")
    if queries.shape[1] != items.shape[1]:
        raise DataError(f"queries are {queries.shape[1]} wide and items {items.shape[1]}; both must live in one space")
    chosen = _measures(measures, ties)
    relevant = _relevance(query_labels, db_labels, chosen, len(queries), len(items))
    ranked = rank_scores(lambda rows: -(queries[rows] @ items.T), relevant, ties=ties)
    return _score(ranked, relevant, chosen, ties=ties, unanswerable=unanswerable, n_bits=None)


def _measures(measures: Sequence[str | Measure], ties: str) -> tuple[Measure, ...]:
    if ties != "reversed":
        check_ties(ties)
    if isinstance(measures, str | Measure):
        measures = (measures,)
    return tuple(dict.fromkeys(parse(measure) for measure in measures))


def _relevance(
    query_labels: ArrayLike, db_labels: ArrayLike, measures: Sequence[Measure], n_queries: int, n_items: int
) -> Relevance:
    relevant = relevance(query_labels, db_labels, graded=any(measure.graded for measure in measures))
    if (relevant.n_queries, relevant.n_items) != (n_queries, n_items):
        raise DataError(
            f"there are labels of {relevant.n_queries:,} queries and {relevant.n_items:,} items, and codes or features "
            f"of {n_queries:,} and {n_items:,}"
        )
    if not n_queries or not n_items:
        raise DataError(f"{n_queries:,} queries over {n_items:,} items: there is nothing to measure")
    return relevant


def _score(
    rankings: Iterator[Ranked],
    relevant: Relevance,
    measures: Sequence[Measure],
    *,
    ties: str,
    unanswerable: str,
    n_bits: int | None,
) -> Scores:
    if unanswerable not in get_args(Unanswerable):
        choices = get_args(Unanswerable)
        raise InputError(f"queries without a relevant item cannot be {unanswerable!r}{nearest(unanswerable, choices)}")
    per_query = {str(measure): np.empty(relevant.n_queries) for measure in measures}
    without = np.empty(relevant.n_queries, dtype=np.bool_)
    for ranked in rankings:
        without[ranked.queries] = ranked.by_rank.n_relevant == 0
        for measure in measures:
            per_query[str(measure)][ranked.queries] = measure.per_query(ranked)
    if unanswerable != "zero":
        for measure in measures:
            values = per_query[str(measure)]
            missed = (values == 0) & (measure.better == "higher") & (unanswerable == "drop-zero")
            values[without | missed] = np.nan
    return Scores(
        values={str(measure): measure.summary(per_query[str(measure)]) for measure in measures},
        n_queries=relevant.n_queries,
        n_without=int(without.sum()),
        n_items=relevant.n_items,
        n_bits=n_bits,
        ties=ties,
        unanswerable=unanswerable,
        per_query=per_query,
    )
