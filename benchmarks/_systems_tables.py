"""From finished cells to JSON and Markdown: the systems' table, and what became of each claim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _systems_cells import Cell

from hashret._files import write_whole
from hashret.evaluation.figures import write_figures
from hashret.evaluation.statistics import bootstrap
from hashret.training import read_config
from hashret.training.config import Claim

Cells = Mapping[Cell, dict[str, Any]]


def write_tables(
    out: Path,
    cells: Cells,
    runs: Path,
    *,
    systems: list[str],
    own: Mapping[str, tuple[str, ...]],
    scale: float,
) -> None:
    """Write ``out`` and the Markdown beside it."""
    rows = list(_systems(cells, systems, own))
    claims = list(_claims(cells, runs, systems))
    write_figures(out, {"systems": rows, "claims": claims, "scale of epochs": scale})
    lines = [
        "# Systems on equal pairs",
        "",
        "Flickr8k, official splits, test read once; codes against codes, tie-aware; frozen EfficientNet-lite0 + MiniLM "
        "(rows with another pair say so). Chosen on validation. One command: "
        "`python benchmarks/systems.py --data captions.jsonl`"
        + (f" with `--scale {scale:g}` of the epochs." if scale != 1 else "."),
        "",
        "| system | bits | bytes | i2t R@1 / 5 / 10 | t2i R@1 / 5 / 10 | rSum | relaxed query | float | s | seeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_system_line, rows),
        "",
        "| system | claim | with | without | difference [95 %] | verdict |",
        "|---|---|---|---|---|---|",
        *map(_claim_line, claims),
        "",
        "s: seconds of training from cached features. Differences are of rSum (of the probe's accuracy in percent for "
        "invariance, where lower is better); the interval is a paired bootstrap over test queries, one seed. "
        "Shown: above 0. Contrary: below. Else not shown.",
    ]
    write_whole(out.with_suffix(".md"), "\n".join(lines) + "\n")


def _systems(cells: Cells, systems: list[str], own: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    for system in systems:
        for overrides, label in dict.fromkeys([(own.get(system, ()), ""), ((), "own pair")]):
            found = [(c, f) for c, f in cells.items() if c.system == system and c.overrides == overrides]
            if label and not own.get(system):
                continue
            for n_bits in sorted({int(n) for _, f in found for n in f["codes"]}):
                at = [f for _, f in found if str(n_bits) in f["codes"]]
                figures = [f["codes"][str(n_bits)] for f in at]
                yield {
                    "system": f"{system}, {label}" if label else system,
                    "n_bits": n_bits,
                    "bytes": at[0]["bytes"][str(n_bits)],
                    **{
                        way: [float(np.mean([f[way][f"R@{k}"] for f in figures])) for k in (1, 5, 10)]
                        for way in ("i2t", "t2i")
                    },
                    "rSum": [f["rSum"] for f in figures],
                    "relaxed": [f["relaxed"][str(n_bits)] for f in at],
                    "float": [f["float"][str(n_bits)] for f in at],
                    "seconds": float(np.median([f["seconds"]["training"] for f in at])),
                    "seeds": len(at),
                }


def _claims(cells: Cells, runs: Path, systems: list[str]) -> Iterator[dict[str, Any]]:
    seeds = [cell.seed for cell in cells]
    for system in systems:
        for name, claim in read_config(system).claims.items():
            known = {cell.overrides: cell for cell in cells if cell.system == system and cell.seed == seeds[0]}
            first, second = known.get(claim.given), known.get((*claim.given, *claim.without))
            if first is None or second is None:
                continue
            yield {"system": system, "claim": name, "says": claim.says, **_compare(claim, cells, runs, first, second)}


def _compare(claim: Claim, cells: Cells, runs: Path, first: Cell, second: Cell) -> dict[str, Any]:
    if claim.measure == "probe":
        values = [100 * cells[cell]["probe"] for cell in (first, second)]
        return {"with": values[0], "without": values[1], "difference": values[0] - values[1], "measure": "probe"}
    length = str(max(map(int, cells[first]["codes"])) if first.n_bits == 0 else first.n_bits)
    prefixes = ("after", "before") if claim.measure == "rerank" else (length, length)
    tables = [dict(np.load(runs / cell.name / "queries.npz")) for cell in (first, second)]
    ways = [[table[f"{prefix}/{way}"] for way in ("i2t", "t2i")] for table, prefix in zip(tables, prefixes)]
    owner = tables[0]["owner"]
    n_images, n_texts = len(ways[0][0]), len(ways[0][1])
    # an image's value and its captions' values are resampled together; scaled so that the mean of units is rSum
    units = [i2t + np.bincount(owner, t2i, minlength=n_images) * (n_images / n_texts) for i2t, t2i in ways]
    found = bootstrap(units[0] - units[1])
    return {
        "with": float(units[0].mean()),
        "without": float(units[1].mean()),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "measure": claim.measure,
        **({"floats": cells[first]["rerank"]["floats"]} if claim.measure == "rerank" else {}),
        **({"AUC": cells[first]["noise"]["noise.AUC"]} if "noise.AUC" in cells[first]["noise"] else {}),
    }


def _system_line(row: dict[str, Any]) -> str:
    recalls = [" / ".join(f"{value:.1f}" for value in row[way]) for way in ("i2t", "t2i")]
    means = [f"{np.mean(row[key]):.1f}" for key in ("relaxed", "float")]
    return (
        f"| {row['system']} | {row['n_bits']} | {row['bytes']} | {recalls[0]} | {recalls[1]} | "
        f"{_spread(row['rSum'])} | {means[0]} | {means[1]} | {row['seconds']:.0f} | {row['seeds']} |"
    )


def _claim_line(row: dict[str, Any]) -> str:
    interval = f" [{row['low']:+.1f}, {row['high']:+.1f}]" if "low" in row else ""
    tail = f"; the float side's cosine alone gives {row['floats']:.1f}" if "floats" in row else ""
    tail += f"; false pairs found with AUC {row['AUC']:.3f}" if "AUC" in row else ""
    return (
        f"| {row['system']} | {row['says']}{tail} | {row['with']:.1f} | {row['without']:.1f} | "
        f"{row['difference']:+.1f}{interval} | {_verdict(row)} |"
    )


def _verdict(row: dict[str, Any]) -> str:
    if row["measure"] == "probe":
        return "shown" if row["difference"] < 0 else "contrary"
    if row["low"] > 0:
        return "shown"
    return "contrary" if row["high"] < 0 else "not shown"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")
