"""Sections of a report from what was measured: the first facts, tables by length, quality against bytes, ranks, curves.

Used by every report about codes. Knows values and arrays; nothing of models, and it draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hashret.codes import bytes_for
from hashret.evaluation._tables import chance_of_a_hit
from hashret.evaluation.coded import WAYS, Coded, by_way
from hashret.evaluation.curves import radius_curve, recall_curve
from hashret.evaluation.measured import FLOAT_BYTES, LabelRow, Measured
from hashret.evaluation.measures import parse
from hashret.evaluation.plots import quality_against_bytes
from hashret.evaluation.retrieval import Direction, Retrieval
from hashret.evaluation.sections import Fact, Facts, Plot, Plots, Series, Table
from hashret.evaluation.statistics import bootstrap

DIRECTIONS = {"i2t": "captions by a picture (i2t)", "t2i": "pictures by a caption (t2i)"}
POINTS = 64  # of a curve over ranks
NOTE = "Recall in percent{ties}. i2t: a picture finds its captions; t2i: a caption finds its picture."
TIES = {
    "expected": ", expected over all orders of items at one distance",
    "optimistic": ", of items at one distance the relevant ones first",
    "pessimistic": ", of items at one distance the relevant ones last",
    "stable": ", items at one distance by row",
}
RELAXED_NOTE = " A relaxed query is an unquantised query against the same stored bits."


def first_facts(measured: Measured, *, n_bits: int, captions: str = "captions", pictures: str = "pictures") -> Facts:
    """What a reader should see first, at one length.

    Args:
        measured: the figures.
        n_bits: a length that was measured.
        captions: what this report calls them ("names").
        pictures: likewise ("emoji").
    """
    codes = measured.codes[n_bits]
    facts = [
        Fact(
            f"{codes.t2i.r10:.0f} %",
            f"of {captions} find their own among {measured.n_images:,} {pictures} within the first 10",
            f"chance {codes.chance['t2i']['R@10']:.1f} %",
        )
    ]
    if measured.floats:
        width, floats = max(measured.floats.items())
        times = FLOAT_BYTES * width / bytes_for(n_bits)
        facts.append(Fact(_bytes(n_bits), "an item in the index", f"{times:.0f} times smaller than its float vector"))
        if floats.r_sum:
            kept = 100 * codes.r_sum / floats.r_sum
            facts.append(Fact(f"{kept:.0f} %", "of the float vectors' rSum kept", f"at {n_bits} bits"))
    else:
        facts.append(Fact(_bytes(n_bits), "an item in the index", f"codes of {n_bits} bits"))
        facts.append(Fact(f"{codes.r_sum:.1f}", "rSum, of 600", f"chance {codes.chance_r_sum:.1f}"))
    facts.append(Fact(f"{measured.n_images:,}", pictures, f"{measured.n_captions:,} {captions}"))
    return Facts(tuple(facts))


def retrieval_table(measured: Measured, *, title: str, note: str = NOTE) -> Table:
    """R@K in both directions and rSum, by length."""
    rows = list(measured.rows())
    columns = ("", "bytes an item", *(f"{way} R@{k}, %" for way in WAYS for k in (1, 5, 10)), "rSum, of 600")
    return Table(
        title,
        columns,
        tuple((row.name, row.bytes_an_item or None, *row.i2t, *row.t2i, row.r_sum) for row in rows),
        note=note.format(ties=ties_of(measured)) + (RELAXED_NOTE if measured.asymmetric else ""),
        aside=tuple(row.name for row in rows if row.kind in ("float", "chance")),
    )


def label_table(measured: Measured, *, title: str) -> Table:
    """Measures over shared labels, by length, beside the float vectors and chance."""
    names = list(measured.by_label[0].values)
    ranks = any(parse(name.split(" ", 1)[1]).kind in ("MedR", "MeanR") for name in names)
    without = ", ".join(f"{count:,} {way} queries" for way, count in measured.n_without.items() if count)
    searched = ""
    if measured.n_database is not None:
        pictures, captions = measured.n_database
        searched = f" Searched: {pictures:,} pictures and {captions:,} captions apart from the queries."
    return Table(
        title,
        ("", "bytes an item", *names),
        tuple(
            (row.name, row.bytes_an_item or None, *(row.values.get(name) for name in names))
            for row in measured.by_label
        ),
        note="An item is relevant that shares a label with the query; values in 0…1"
        + f"{', ranks from 1 on' if ranks else ''}{ties_of(measured)}."
        + searched
        + (
            f" Nothing is relevant to {without}, which {measured.lone_queries}."
            if without and measured.lone_queries
            else ""
        ),
        digits=4,
        aside=tuple(row.name for row in measured.by_label if row.kind != "codes"),
    )


def ties_of(measured: Measured) -> str:
    """How items at one distance were ordered, as the end of a sentence."""
    return TIES[next(iter(measured.codes.values())).ties]


def bytes_plots(measured: Measured, *, title: str = "What a byte buys") -> Plots:
    """Quality against bytes an item, with the float vectors as the ceiling and chance as the floor."""
    rows = list(measured.rows())
    plots = []
    for way in WAYS:
        methods = {
            label: [(row.bytes_an_item, getattr(row, way)[2]) for row in rows if row.kind == kind]
            for kind, label in (("codes", "code against code"), ("asymmetric", "relaxed query"))
        }
        ceiling = next(((f"{row.name}", getattr(row, way)[2]) for row in rows if row.kind == "float"), None)
        plots.append(
            quality_against_bytes(
                DIRECTIONS[way].capitalize(),
                {label: points for label, points in methods.items() if points},
                measure=f"{way} R@10, percent",
                ceiling=ceiling,
                chance=rows[-1].i2t[2] if way == "i2t" else rows[-1].t2i[2],
            )
        )
    if measured.by_label:
        plots += list(_label_plots(measured.by_label))
    return Plots(title, tuple(plots))


def _label_plots(rows: Sequence[LabelRow]) -> Iterator[Plot]:
    """The first measure over labels, against bytes."""
    measure = next(iter(rows[0].values)).split(" ", 1)[1]
    for way in WAYS:
        name = f"{way} {measure}"
        of_kind = {kind: [(r.bytes_an_item, r.values[name]) for r in rows if r.kind == kind and name in r.values]
                   for kind in ("codes", "float", "chance")}  # fmt: skip
        width = next((row.name for row in rows if row.kind == "float"), "")
        yield quality_against_bytes(
            f"Shared labels, {DIRECTIONS[way]}",
            {"code against code": of_kind["codes"]},
            measure=name,
            ceiling=(width, of_kind["float"][0][1]) if of_kind["float"] else None,
            chance=of_kind["chance"][0][1] if of_kind["chance"] else None,
        )


def rank_plots(measured: Measured, coded: Coded) -> Plots:
    """Query by query: what share of them has its first correct item within the first K."""
    sizes = {"i2t": np.bincount(coded.owner, minlength=len(coded.images)), "t2i": np.ones(len(coded.texts), np.int64)}
    plots = []
    for way in WAYS:
        results: list[tuple[str, Retrieval]] = [(f"{n} bits", measured.codes[n]) for n in some(list(measured.codes))]
        n_items = getattr(results[0][1], way).n_items
        cuts = np.unique(np.geomspace(1, n_items, POINTS).round().astype(np.int64))
        x = tuple(map(float, cuts))
        series = [Series(label, x, tuple(map(getattr(result, way).within, cuts))) for label, result in results]
        if measured.floats:
            width, floats = max(measured.floats.items())
            series.append(
                Series(f"float32, {width} wide", x, tuple(map(getattr(floats, way).within, cuts)), "reference")
            )
        correct = sizes[way]
        chance = [100 * float(chance_of_a_hit(np.full(len(correct), n_items), correct, int(k)).mean()) for k in cuts]
        series.append(Series("chance", x, tuple(chance), "reference"))
        plots.append(
            Plot(DIRECTIONS[way].capitalize(), tuple(series), "rank of the first correct item", "queries, percent",
                 log_x=True)
        )  # fmt: skip
    return Plots(
        "Where the right one stands, query by query",
        tuple(plots),
        note=f"The share of queries whose first correct item stands at this rank or before{ties_of(measured)}.",
    )


def quantile_plots(measured: Measured) -> Plots:
    """Query by query: the first measure over labels, queries sorted by it."""
    measure = next(iter(measured.by_label[0].values)).split(" ", 1)[1]
    codes = [row for row in measured.by_label if row.kind == "codes"]
    chosen = [codes[at] for at in some(list(range(len(codes))))] + [r for r in measured.by_label if r.kind == "float"]
    shares = np.linspace(0, 1, POINTS)
    plots = []
    for way in WAYS:
        series = []
        for row in chosen:
            values = row.per_query.get(f"{way} {measure}")
            if values is not None and not np.isnan(values).all():
                lower = parse(measure).better == "lower"
                y = np.quantile(values[~np.isnan(values)], shares[::-1] if lower else shares)
                style = "reference" if row.kind == "float" else "line"
                series.append(Series(row.name, tuple(100 * shares), tuple(map(float, y)), style))  # type: ignore[arg-type]
        plots.append(Plot(DIRECTIONS[way].capitalize(), tuple(series), "queries, percent, worst first", measure))
    return Plots(f"{measure}, query by query", tuple(plots))


def curve_plots(measured: Measured, coded: Coded, *, database: Coded | None = None) -> Plots:
    """Precision against recall over shared labels: within each Hamming radius, and interpolated over the ranking."""
    ties = next(iter(measured.codes.values())).ties
    together = ", items at one distance retrieved together"  # the expected maximum over orders has no closed form
    lookup: dict[str, list[Series]] = {way: [] for way in WAYS}
    ranking: dict[str, list[Series]] = {way: [] for way in WAYS}
    for n_bits in some(list(measured.codes)):
        for way, arguments in by_way(coded, database, n_bits).items():
            radius = radius_curve(*arguments, n_bits=n_bits)
            filled = radius.empty < 1  # an empty ball has no precision
            x, y = radius.recall[filled], radius.precision[filled]
            lookup[way].append(Series(f"{n_bits} bits", tuple(map(float, x)), tuple(map(float, y))))
            curve = recall_curve(*arguments, n_bits=n_bits, ties=ties)  # type: ignore[arg-type]
            ranking[way].append(
                Series(f"{n_bits} bits", tuple(map(float, curve.recall)), tuple(map(float, curve.precision)))
            )
    return Plots(
        "Precision and recall over shared labels",
        (
            *(
                Plot(f"Lookup, {DIRECTIONS[way]}", tuple(lines), "recall within the radius",
                     "precision within the radius")
                for way, lines in lookup.items()
            ),
            *(
                Plot(f"Ranking, {DIRECTIONS[way]}", tuple(lines), "recall", "interpolated precision")
                for way, lines in ranking.items()
            ),
        ),
        note="Lookup: everything within a Hamming radius is retrieved, one point a radius, the mean over queries, an "
        "empty ball counting as precision 0. Ranking: 11-point interpolated precision"
        f"{together if ties == 'expected' else TIES[ties]}.",
    )  # fmt: skip


def interval_table(measured: Measured, coded: Coded, *, n_bits: int) -> Table:
    """95 % bootstrap intervals at one length; the captions of one picture are resampled together."""
    rows = []
    groups = {"i2t": np.arange(len(coded.images)), "t2i": coded.owner}
    for way in WAYS:
        direction: Direction = getattr(measured.codes[n_bits], way)
        for name in ("R@1", "R@10"):
            sure = bootstrap(100 * direction.per_query[name], groups=groups[way])
            rows.append(
                (f"{way} {name}, %", f"{sure.value:.1f}", f"{sure.low:.1f} to {sure.high:.1f}", direction.n_queries)
            )
    for row in measured.by_label:
        for name, values in row.per_query.items() if row.n_bits == n_bits and row.kind == "codes" else ():
            way, measure = name.split(" ", 1)
            if parse(measure).kind != "MedR" and not np.isnan(values).all():
                sure = bootstrap(values, groups=groups[way])
                known = int((~np.isnan(values)).sum())  # without those that have no rank
                rows.append((name, f"{sure.value:.4f}", f"{sure.low:.4f} to {sure.high:.4f}", known))
    return Table(
        f"How sure, at {n_bits} bits",
        ("", "value", "95 % interval", "queries"),
        tuple(rows),
        note="Bootstrap over queries; the captions of one picture are drawn together.",
    )


def some(lengths: Sequence[int], most: int = 4) -> list[int]:
    """At most a few of them, spread evenly, the first and the last included: more lines cannot be told apart."""
    if len(lengths) <= most:
        return list(lengths)
    return [lengths[round(at)] for at in np.linspace(0, len(lengths) - 1, most)]


def _bytes(n_bits: int) -> str:
    size = bytes_for(n_bits)
    return f"{size:,} byte{'' if size == 1 else 's'}"
