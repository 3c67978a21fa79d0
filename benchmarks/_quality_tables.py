"""From cells to tables: Markdown, plots (PNG and SVG inside the report), one HTML page, and one JSON file.

The mean over seeds is shown, with half the range between seeds where there are several.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _quality_cells import OWN
from _quality_data import Features
from _quality_remarks import remarks

from hashret._files import write_whole
from hashret.evaluation import plots
from hashret.evaluation.report import Commands, Plot, Plots, Report, Table, Text, write_report

KINDS = {"codes": "codes", "asymmetric": "relaxed query"}


@dataclass(frozen=True)
class Row:
    """One method at one length, the mean over its seeds."""

    method: str
    n_bits: int
    n_bytes: int
    kind: str
    value: float
    spread: float
    parts: dict[str, float]
    fit_s: float
    encode_ms: float
    n_seeds: int


def headers(relevance: str) -> tuple[str, list[str]]:
    """The figure that methods are compared by, and those that it is made of."""
    if relevance == "labels":
        return "mean AP@all", ["i2t AP@all", "t2i AP@all"]
    return "rSum", [f"{way} R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)]


def rows_of(cells: list[dict[str, Any]], relevance: str) -> list[Row]:
    """A row for each method, length and kind (codes, relaxed query, float), in the order of the cells."""
    grouped: dict[tuple[str, int, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for cell in cells:
        for n_bits, figures in cell.get("lengths", {}).items():
            for kind in ("codes", "asymmetric", "float"):
                if kind in figures:
                    grouped.setdefault((cell["method"], int(n_bits), kind), []).append((cell, figures))
    rows = []
    for (method, n_bits, kind), found in grouped.items():
        parts = [_parts(figures[kind], relevance) for _, figures in found]
        values = [sum(part.values()) / (1 if relevance == "instance" else len(part)) for part in parts]
        rows.append(
            Row(
                method=method,
                n_bits=n_bits,
                n_bytes=4 * n_bits if kind == "float" else found[0][1]["bytes"],
                kind=kind,
                value=float(np.mean(values)),
                spread=float(np.ptp(values)) / 2,
                parts={name: float(np.mean([part[name] for part in parts])) for name in parts[0]},
                fit_s=float(np.mean([cell["fit_s"] for cell, _ in found])),
                encode_ms=float(np.mean([cell["encode_ms_per_item"] for cell, _ in found])),
                n_seeds=len(found),
            )
        )
    return rows


def write(out: Path, data: Features, cells: list[dict[str, Any]], *, command: str, split: str) -> Path:
    """Everything that a reader wants, from complete cells; gives the path of the Markdown file."""
    rows = rows_of(cells, data.relevance)
    figure, parts = headers(data.relevance)
    ceilings = {row.method: row for row in rows if row.kind == "float" and row.method in (OWN, "cca-float")}
    # cells are kept from run to run, and some were computed where git knows nothing
    revisions = list(dict.fromkeys(str(cell["environment"]["git"] or "unknown") for cell in cells))
    places = list(dict.fromkeys(_place(cell["environment"]) for cell in cells))
    facts = (
        f"{data.name}, split {split}: {len(data.test.images):,} pictures, {len(data.test.texts):,} texts; learned from "
        f"{len(data.train.images):,} pictures, {len(data.train.texts):,} texts. Features: {data.features}.",
        "Ties count by expectation over their orders. " + _relevance(data.relevance),
        f"{'; '.join(places)}; revision{'s' * (len(revisions) > 1)} {', '.join(revisions)}.",
    )
    tables = {kind: _table(rows, kind, figure) for kind in KINDS}
    detail = _detail(rows, figure, parts)
    notes = [f"{cell['method']}: {cell['refused']}" for cell in cells if "refused" in cell]
    notes = list(dict.fromkeys(notes))
    said = remarks(list(dict.fromkeys(row.method for row in rows)), data.relevance)
    drawn = Plots(
        f"{figure} against bytes an item",
        tuple(_plot(rows, kind, figure, ceilings, _chance(cells)) for kind in KINDS),
        note="The horizontal lines are float vectors: the head's own before they are cut to bits.",
    )
    text = [f"# Quality: {data.name}", "", *facts, "", "```", command, "```", ""]
    for kind, table in tables.items():
        text += [f"## {figure} of {KINDS[kind]} against stored codes, by bits", "", *_markdown(table), ""]
    if said:
        text += ["## Why some figures are what they are", "", *(f"- {line}" for line in said), ""]
    text += ["## Everything", "", *_markdown(detail), ""]
    if notes:
        text += ["## Methods that refused", "", *(f"- {note}" for note in notes), ""]
    stem = out / f"quality-{data.stem}"
    for plot, kind in zip(drawn.plots, KINDS):
        plots.save(plot, stem.with_name(f"{stem.name}-{kind}.png"), size="wide")
    write_report(
        stem.with_name(f"{stem.name}.html"),
        Report(
            f"Quality of codes: {data.name}",
            (Text("What was measured", facts), drawn, *tables.values())
            + ((Text("Why some figures are what they are", said),) if said else ())
            + (detail,)
            + ((Text("Methods that refused", tuple(notes)),) if notes else ())
            + (Commands("How to repeat it", (command,)),),
            subtitle=f"{figure} of every method at every length",
        ),
    )
    return write_whole(stem.with_name(f"{stem.name}.md"), "\n".join(text))


def _place(environment: dict[str, Any]) -> str:
    """Where and with what a cell was computed."""
    packages = ", ".join(f"{name} {number}" for name, number in environment["packages"].items())
    return f"{environment['device']}, Python {environment['python']}, {packages}, {environment['threads']} thread(s)"


def _table(rows: list[Row], kind: str, figure: str) -> Table:
    """Methods x lengths."""
    chosen = [row for row in rows if row.kind == kind]
    lengths = sorted({row.n_bits for row in chosen})
    by_place = {(row.method, row.n_bits): row.value for row in chosen}
    digits = 1 if figure == "rSum" else 3
    return Table(
        f"{figure}, {KINDS[kind]} against stored codes",
        ("method", *(f"{n_bits} bits" for n_bits in lengths)),
        tuple(
            (method, *(by_place.get((method, n_bits)) for n_bits in lengths))
            for method in dict.fromkeys(row.method for row in chosen)
        ),
        digits=digits,
        best={f"{n_bits} bits": "higher" for n_bits in lengths},
    )


def _detail(rows: list[Row], figure: str, parts: list[str]) -> Table:
    names = {"codes": "codes", "asymmetric": "relaxed query", "float": "float32"}
    shown = [row for row in rows if row.kind != "float" or row.method in (OWN, "cca-float")]
    return Table(
        "Everything",
        ("method", "searched with", "bits", "bytes", *parts, figure, "± seeds", "seeds", "fit s", "encode ms/item"),
        tuple(
            (
                row.method,
                names[row.kind],
                row.n_bits,
                row.n_bytes,
                *(row.parts[name] for name in parts),
                row.value,
                row.spread if row.n_seeds > 1 else None,
                row.n_seeds,
                row.fit_s,
                row.encode_ms,
            )
            for row in shown
        ),
        digits=2 if figure == "rSum" else 3,
        note="A nested method is fitted once for all of its lengths.",
    )


def _plot(rows: list[Row], kind: str, figure: str, ceilings: dict[str, Row], chance: float | None) -> Plot:
    methods = _points(rows, kind)
    by_codes = _points(rows, "codes")  # so that a method has one colour in both pictures
    order = sorted(methods, key=lambda method: (method != OWN, -max(value for _, value in by_codes[method])))
    best = max(ceilings.values(), key=lambda row: row.value, default=None)
    return plots.quality_against_bytes(
        f"{figure}, {KINDS[kind]}",
        {method: methods[method] for method in order[: len(plots.COLOURS)]},
        measure=figure,
        ceiling=None if best is None else (f"float32 {best.method}, {best.n_bytes:,} bytes", best.value),
        chance=chance,
        note=f"The best {len(plots.COLOURS)} of {len(order)} methods." if len(order) > len(plots.COLOURS) else "",
    )


def _points(rows: list[Row], kind: str) -> dict[str, list[tuple[float, float]]]:
    """Bytes and quality of each length, by method; not of random codes."""
    methods: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.kind == kind and row.method != "random":
            methods.setdefault(row.method, []).append((row.n_bytes, row.value))
    return methods


def _chance(cells: list[dict[str, Any]]) -> float | None:
    for cell in cells:
        for figures in cell.get("lengths", {}).values():
            if "chance" in figures["float"]:
                return float(figures["float"]["chance"]["rSum"])
    return None


def _parts(figures: dict[str, Any], relevance: str) -> dict[str, float]:
    if relevance == "labels":
        return {f"{way} AP@all": float(figures[way]) for way in ("i2t", "t2i")}
    return {f"{way} R@{k}": float(figures[way][f"R@{k}"]) for way in ("i2t", "t2i") for k in (1, 5, 10)}


def _relevance(relevance: str) -> str:
    if relevance == "labels":
        return "AP@all over shared labels: queries are the test part, the training part is searched."
    return "rSum is the sum of R@1, R@5 and R@10 in percent, both ways; 600 is perfect."


def _markdown(table: Table) -> list[str]:
    def cell(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:,.{table.digits}f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
    return lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in table.rows]
