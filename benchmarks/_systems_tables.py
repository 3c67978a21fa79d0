"""From finished cells to JSON and Markdown: the systems' table, and what became of each claim."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import command_given
from _systems_cells import Cell, Overrides

from hashret._files import write_whole
from hashret.evaluation.figures import write_figures
from hashret.evaluation.statistics import bootstrap
from hashret.training import read_config
from hashret.training.config import Claim

Cells = Mapping[Cell, dict[str, Any]]


class Row(NamedTuple):
    """A system in the table: all of its cells with these overrides, whatever their seeds; a line for each length."""

    name: str
    system: str
    overrides: Overrides = ()


def write_tables(
    out: Path,
    cells: Cells,
    runs: Path,
    *,
    data: str,
    rows: Sequence[Row],
    n_bits: int,
    seed: int,
    scale: float,
    missing: int,
) -> None:
    """Write ``out`` and the Markdown beside it.

    Args:
        out: the JSON file.
        cells: every cell that is finished, with its content.
        runs: where the cells' files are.
        data: the name of the data set.
        rows: of the systems' table, in order.
        n_bits: the code length that claims are tested at.
        seed: that claims are tested with.
        scale: of all epochs.
        missing: number of cells that were wanted and are not finished.
    """
    systems = [line for row in rows for line in _lines(cells, row)]
    at_one = {cell: found for cell, found in cells.items() if (cell.n_bits, cell.seed) == (n_bits, seed)}
    claims = [claim for system in dict.fromkeys(row.system for row in rows) for claim in _claims(at_one, runs, system)]
    seconds = (found["seconds"] for found in cells.values())
    figures = {
        "data": data,
        "systems": systems,
        "claims": claims,
        "scale of epochs": scale,
        "runs": len(cells),
        "missing": missing,
        "hours": sum(each["features"] + each["training"] for each in seconds) / 3600,
    }
    write_figures(out, figures, command=command_given())
    write_whole(out.with_suffix(".md"), "\n".join(_page(figures, command_given(), out.parent)) + "\n")


def _page(figures: Mapping[str, Any], command: str, folder: Path) -> Iterator[str]:
    """The lines of the page that says what the JSON file does; ``folder`` may hold what other methods make of it."""
    done, missing, scale = figures["runs"], figures["missing"], figures["scale of epochs"]
    hours = figures["hours"]  # None: of lines that several calls have made
    less = f", {scale:g} of the epochs" if scale != 1 else ""
    took = f" Features and training of the {done} runs took {hours:.1f} hours, one after the other." if hours else ""
    gaps = f" {missing} of {missing + done} runs are not finished, and their lines are missing." if missing else ""
    yield from (
        "# Systems on equal pairs",
        "",
        f"{figures['data']}, test read once; codes against codes, tie-aware; frozen EfficientNet-lite0 at 224 pixels "
        "+ MiniLM (rows with another pair or larger pictures say so). Chosen on validation. Written by "
        f"`{command}`{less}.{gaps}",
        "",
        "| system | bits | bytes | i2t R@1 / 5 / 10 | t2i R@1 / 5 / 10 | rSum | relaxed query | float | passes | s "
        "| seeds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(_system_line, figures["systems"]),
        "",
        "| system | claim | with | without | difference [95 %] | verdict |",
        "|---|---|---|---|---|---|",
        *map(_claim_line, figures["claims"]),
        "",
        "passes: how often the heads learn from all pictures. "
        "s: seconds of training steps from cached features (validation is not counted), whatever else ran beside it. "
        "Claims are tested on each configuration as it stands. Differences are of rSum (of the probe's accuracy in "
        "percent for invariance, where lower is better); the interval is a paired bootstrap over test queries, one "
        "seed. Shown: above 0. Contrary: below. Else not shown. A probe has no interval. "
        "A re-ranker is given the first items by codes, and compared with the cosine of their float vectors, which it "
        "starts from; it takes items at one distance by row, so that these figures differ a little from the tie-aware "
        f"rSum above.{took}",
    )
    yield from _methods(folder / f"quality-{figures['data']}.json")


def _lines(cells: Cells, row: Row) -> Iterator[dict[str, Any]]:
    """The line of each code length; a nested model has several."""
    found = [content for cell, content in cells.items() if (cell.system, cell.overrides) == (row.system, row.overrides)]
    for n_bits in sorted({int(length) for content in found for length in content["codes"]}):
        at = [content for content in found if str(n_bits) in content["codes"]]
        figures = [content["codes"][str(n_bits)] for content in at]
        yield {
            "system": row.name,
            "n_bits": n_bits,
            "bytes": at[0]["bytes"][str(n_bits)],
            **{
                way: [float(np.mean([f[way][f"R@{k}"] for f in figures])) for k in (1, 5, 10)] for way in ("i2t", "t2i")
            },
            "rSum": [f["rSum"] for f in figures],
            "relaxed": [content["relaxed"][str(n_bits)] for content in at],
            "float": [content["float"][str(n_bits)] for content in at],
            "passes": passes_of(row),
            "seconds": float(np.median([content["seconds"]["training"] for content in at])),
            "seeds": len(at),
        }


def passes_of(row: Row) -> int:
    """How often the heads go through the training pictures, at full scale."""
    stages = read_config(row.system, row.overrides).stages
    return sum(stage.epochs * stage.passes for stage in stages if "heads" in stage.train)


def _claims(cells: Cells, runs: Path, system: str) -> Iterator[dict[str, Any]]:
    """What became of each claim of a system, from its cells of one seed and one length."""
    known = {cell.overrides: cell for cell in cells if cell.system == system}
    for name, claim in read_config(system).claims.items():
        first, second = known.get(claim.given), known.get((*claim.given, *claim.without))
        if first is not None and second is not None:
            found = _compare(claim, cells, runs, first, second)
            yield {"system": system, "claim": name, "says": claim.says, "tried": claim.tried, **found}


def _compare(claim: Claim, cells: Cells, runs: Path, first: Cell, second: Cell) -> dict[str, Any]:
    if claim.measure == "probe":
        values = [100 * cells[cell]["probe"] for cell in (first, second)]
        return {"with": values[0], "without": values[1], "difference": values[0] - values[1], "measure": "probe"}
    length = str(claim.n_bits or first.n_bits)  # of a nested model a prefix
    # a re-ranker starts from the cosine of float vectors: what it adds to codes is no merit of its own
    prefixes = ("after", "floats") if claim.measure == "rerank" else (length, length)
    tables = [dict(np.load(runs / cell.name / "queries.npz")) for cell in (first, second)]
    units = [units_of(table, prefix) for table, prefix in zip(tables, prefixes)]
    found = bootstrap(units[0] - units[1])
    return {
        "with": float(units[0].mean()),
        "without": float(units[1].mean()),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "measure": claim.measure,
        **({"codes": cells[first]["rerank"]["before"]} if claim.measure == "rerank" else {}),
        **({"n_bits": claim.n_bits} if claim.n_bits else {}),
        **({"AUC": cells[first]["noise"]["noise.AUC"]} if "noise.AUC" in cells[first]["noise"] else {}),
    }


def units_of(table: Mapping[str, np.ndarray], prefix: str) -> np.ndarray:
    """(I,) what each picture and its captions, which are resampled together, add to rSum: their mean is rSum.

    Args:
        table: of ``queries.npz``; ``owner`` is (M,), the picture of each caption.
        prefix: whose values, such as ``"256"``: (I,) of ``256/i2t`` and (M,) of ``256/t2i``.
    """
    i2t, t2i = table[f"{prefix}/i2t"], table[f"{prefix}/t2i"]
    units: np.ndarray = i2t + np.bincount(table["owner"], t2i, minlength=len(i2t)) * (len(i2t) / len(t2i))
    return units


def _system_line(row: dict[str, Any]) -> str:
    recalls = [" / ".join(f"{value:.1f}" for value in row[way]) for way in ("i2t", "t2i")]
    means = [f"{np.mean(row[key]):.1f}" for key in ("relaxed", "float")]
    return (
        f"| {row['system']} | {row['n_bits']} | {row['bytes']} | {recalls[0]} | {recalls[1]} | "
        f"{_spread(row['rSum'])} | {means[0]} | {means[1]} | {row['passes']} | {row['seconds']:.0f} | {row['seeds']} |"
    )


def _methods(quality: Path) -> Iterator[str]:
    """A table of what other methods make of the same pictures and captions, where that was measured.

    Args:
        quality: the figures that benchmarks/quality.py has written.
    """
    if not quality.exists():
        return
    found: dict[str, dict[int, list[float]]] = {}
    for cell in json.loads(quality.read_text(encoding="utf-8"))["cells"]:
        for n_bits, figures in cell.get("lengths", {}).items():
            if "codes" in figures:
                found.setdefault(cell["method"], {}).setdefault(int(n_bits), []).append(figures["codes"]["rSum"])
    lengths = sorted({n_bits for known in found.values() for n_bits in known})
    yield ""
    yield (
        f"Other methods on the pooled features of the frozen pair at 224 pixels, rSum of codes, from {quality.stem}.md "
        "(feature-hasher is the preset's head and loss for features of one's own):"
    )
    yield ""
    yield "| method | " + " | ".join(f"{n_bits} bits" for n_bits in lengths) + " |"
    yield "|---" * (1 + len(lengths)) + "|"
    for method, known in found.items():
        yield f"| {method} | " + " | ".join(_spread(known[n]) if n in known else "–" for n in lengths) + " |"


def _claim_line(row: dict[str, Any]) -> str:
    interval = f" [{row['low']:+.1f}, {row['high']:+.1f}]" if "low" in row else ""
    tail = f", at {row['n_bits']} bits" if "n_bits" in row else ""
    tail += f"; the order by codes gives {row['codes']:.1f}" if "codes" in row else ""
    tail += f"; false pairs found with AUC {row['AUC']:.3f}" if "AUC" in row else ""
    return (
        f"| {row['system']} | {row['says']}{tail} | {row['with']:.1f} | {row['without']:.1f} | "
        f"{row['difference']:+.1f}{interval} | {_verdict(row)}{_tried(row)} |"
    )


def _verdict(row: dict[str, Any]) -> str:
    if row["measure"] == "probe":
        return "lower" if row["difference"] < 0 else "not lower"
    if row["low"] > 0:
        return "shown"
    return "contrary" if row["high"] < 0 else "not shown"


def _tried(row: dict[str, Any]) -> str:
    return "" if _verdict(row) in ("shown", "lower") else f"; tried: {row['tried'] or 'nothing else'}"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
