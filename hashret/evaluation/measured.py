"""How good codes are, as one value: retrieval at each length, relaxed queries, the float vectors, labels, and chance.

    Coded ─► measure_coded ─► Measured ─► rows of a table, JSON, sections of a report

Takes codes of whatever origin; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hashret.codes import bytes_for
from hashret.evaluation.category import evaluate_labels, evaluate_labels_floats
from hashret.evaluation.coded import WAYS, Coded, by_way, lengths_of
from hashret.evaluation.instance import Ties, evaluate_asymmetric, evaluate_codes, evaluate_floats
from hashret.evaluation.measures import KINDS, Measure, parse
from hashret.evaluation.retrieval import CUTS, Retrieval

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """One line of a results table.

    Attributes:
        name: "64 bits", "64 bits, relaxed query", "float32, 1024 wide", "chance".
        kind: "codes", "asymmetric", "float" or "chance".
        n_bits: code length, or width of the float vectors; 0 for chance.
        bytes_an_item: what the index stores of an item; 0 for chance.
        i2t: R@1, R@5 and R@10 of captions by pictures, in percent.
        t2i: likewise of pictures by captions.
        r_sum: their sum.
    """

    name: str
    kind: str
    n_bits: int
    bytes_an_item: int
    i2t: tuple[float, float, float]
    t2i: tuple[float, float, float]
    r_sum: float


@dataclass(frozen=True)
class LabelRow:
    """Measures over shared labels, of one kind of item.

    Attributes:
        name: "64 bits", "float32, 1024 wide" or "chance".
        kind: "codes", "float" or "chance".
        n_bits: code length, or width of the float vectors; 0 for chance.
        bytes_an_item: what the index stores of an item; 0 for chance.
        values: by "i2t AP@all" and the like, in 0…1; without those that need a Hamming radius where there is none.
        per_query: likewise (n_queries,) float64.
    """

    name: str
    kind: str
    n_bits: int
    bytes_an_item: int
    values: Mapping[str, float]
    per_query: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Measured:
    """What was measured on one set of pairs.

    Attributes:
        codes: code against code, by length in bits.
        asymmetric: relaxed query against stored codes, by length; may be empty.
        floats: the float vectors (cosine of logits), by width; may be empty.
        by_label: tie-aware measures over shared labels: codes by length, the float vectors, chance; may be empty.
        n_images: pictures.
        n_captions: captions.
        n_without: queries by way ("i2t", "t2i") that share a label with nothing that is searched.
        n_database: pictures and captions that the measures over labels search; None where they are the same ones.
    """

    codes: Mapping[int, Retrieval]
    asymmetric: Mapping[int, Retrieval]
    floats: Mapping[int, Retrieval]
    by_label: tuple[LabelRow, ...]
    n_images: int
    n_captions: int
    n_without: Mapping[str, int] = field(default_factory=dict)
    n_database: tuple[int, int] | None = None

    def rows(self) -> Iterator[Row]:
        """The lines of a table: each length, each length with a relaxed query, the float vectors, chance."""
        for n_bits, result in self.codes.items():
            yield _row(f"{n_bits} bits", "codes", n_bits, bytes_for(n_bits), result)
        for n_bits, result in self.asymmetric.items():
            yield _row(f"{n_bits} bits, relaxed query", "asymmetric", n_bits, bytes_for(n_bits), result)
        if self.floats:
            width, result = max(self.floats.items())
            yield _row(f"float32, {width} wide", "float", width, FLOAT_BYTES * width, result)
        result = max(self.codes.items())[1]
        chance = {way: tuple(result.chance[way][f"R@{k}"] for k in CUTS) for way in WAYS}
        yield Row("chance", "chance", 0, 0, chance["i2t"], chance["t2i"], result.chance_r_sum)  # type: ignore[arg-type]

    @property
    def lone_queries(self) -> str:
        """What the measures over labels make of queries without a relevant item, as the end of "they …"; else empty."""
        kinds = {parse(name.split(" ", 1)[1]).kind for row in self.by_label for name in row.values}
        ranks = [kind for kind in KINDS if kind in kinds & {"MedR", "MeanR"}]
        left_out = f"are left out of {' and '.join(ranks)}" if ranks else ""
        zero = "count as 0" if kinds - {"MedR", "MeanR", "Empty"} else ""  # an empty ball is empty for every query
        return " and ".join(filter(None, (zero, left_out)))

    @property
    def labels(self) -> dict[str, float]:
        """Measures over shared labels by "i2t AP@all, 64 bits" and the like."""
        return {f"{name}, {row.name}": value for row in self.by_label for name, value in row.values.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        return {
            "n_images": self.n_images,
            "n_captions": self.n_captions,
            **{
                kind: {str(n_bits): result.to_dict() for n_bits, result in results.items()}
                for kind, results in (("codes", self.codes), ("asymmetric", self.asymmetric), ("float", self.floats))
            },
            "labels": self.labels,
            **({"n_without": dict(self.n_without)} if self.n_without else {}),
            **({"n_database": list(self.n_database)} if self.n_database else {}),
        }


def measure_coded(
    coded: Coded,
    *,
    code_lengths: Collection[int] = (),
    measures: Sequence[str | Measure] = ("AP@all",),
    ties: Ties = "expected",
    database: Coded | None = None,
) -> Measured:
    """Measure codes in both directions.

    Args:
        coded: what is asked and, by instance, searched; its floats and relaxed codes are measured where they are
            known, its labels where there are any.
        code_lengths: in bits; the whole codes without.
        measures: over shared labels, see ``hashret.evaluation.measures``.
        ties: "expected" over all tie orders, "optimistic", "pessimistic" or "stable" (by row).
        database: searched by the measures over labels in the place of ``coded``.

    Raises:
        DataError: a database, and no labels.
        InputError: a code length that there is not, an unknown measure or tie order.
    """
    lengths = lengths_of(coded, code_lengths)
    codes: dict[int, Retrieval] = {}
    asymmetric: dict[int, Retrieval] = {}
    floats: dict[int, Retrieval] = {}
    for n_bits in lengths:
        images, texts = coded.at(n_bits)
        codes[n_bits] = evaluate_codes(images, texts, coded.owner, n_bits=n_bits, ties=ties)
        if coded.relaxed is not None:
            left, right = (part[:, :n_bits] for part in coded.relaxed)
            asymmetric[n_bits] = evaluate_asymmetric(left, right, images, texts, coded.owner, n_bits=n_bits, ties=ties)
        if coded.floats is not None:
            left, right = (part[:, :n_bits] for part in coded.floats)
            floats[n_bits] = evaluate_floats(left, right, coded.owner, ties=ties)
    by_label: tuple[LabelRow, ...] = ()
    without: dict[str, int] = {}
    if coded.labels is not None or database is not None:
        by_label, without = _by_label(coded, database, lengths, [parse(measure) for measure in measures], ties)
    return Measured(
        codes,
        asymmetric,
        floats,
        by_label,
        n_images=len(coded.images),
        n_captions=len(coded.texts),
        n_without=without,
        n_database=None if database is None else (len(database.images), len(database.texts)),
    )


def _by_label(
    coded: Coded, database: Coded | None, lengths: Sequence[int], measures: Sequence[Measure], ties: Ties
) -> tuple[tuple[LabelRow, ...], dict[str, int]]:
    rows = []
    without: dict[str, int] = {}
    values: dict[str, float]
    per_query: dict[str, Any]
    for n_bits in lengths:
        values, per_query = {}, {}
        for way, arguments in by_way(coded, database, n_bits).items():
            scores = evaluate_labels(*arguments, n_bits=n_bits, measures=measures, ties=ties)
            values |= {f"{way} {name}": value for name, value in scores.values.items()}
            per_query |= {f"{way} {name}": each for name, each in scores.per_query.items()}
            without[way] = scores.n_without
        rows.append(LabelRow(f"{n_bits} bits", "codes", n_bits, bytes_for(n_bits), values, per_query))
    ranked = [measure for measure in measures if measure.radius is None]  # floats and chance have no Hamming radius
    if not ranked:
        return tuple(rows), without
    searched = database or coded
    if coded.floats is not None and searched.floats is not None:
        width = max(lengths)
        (images, texts), (db_images, db_texts) = coded.floats, searched.floats
        sides = {"i2t": (images, db_texts), "t2i": (texts, db_images)}
        values, per_query = {}, {}
        for way, (_, _, query_labels, db_labels) in by_way(coded, database, width).items():
            left, right = (side[:, :width] for side in sides[way])
            scores = evaluate_labels_floats(left, right, query_labels, db_labels, measures=ranked, ties=ties)
            values |= {f"{way} {name}": value for name, value in scores.values.items()}
            per_query |= {f"{way} {name}": each for name, each in scores.per_query.items()}
        rows.append(LabelRow(f"float32, {width} wide", "float", width, FLOAT_BYTES * width, values, per_query))
    values = {}
    for way, (queries, items, query_labels, db_labels) in by_way(coded, database, lengths[0]).items():
        same, all_same = (np.zeros((len(codes), 1), np.uint8) for codes in (queries, items))
        scores = evaluate_labels(
            same, all_same, query_labels, db_labels, n_bits=1, measures=ranked
        )  # all tie: any order
        values |= {f"{way} {name}": value for name, value in scores.values.items()}
    rows.append(LabelRow("chance", "chance", 0, 0, values))
    return tuple(rows), without


def _row(name: str, kind: str, n_bits: int, bytes_an_item: int, result: Retrieval) -> Row:
    i2t, t2i = ((way.r1, way.r5, way.r10) for way in (result.i2t, result.t2i))
    return Row(name, kind, n_bits, bytes_an_item, i2t, t2i, result.r_sum)
