"""Plots by matplotlib: as SVG that follows a page's light and dark colours, or as PNG and PDF for a paper.

Draws ``Plot`` values, and builds the usual ones: curves of a training run, and quality against bytes an item. Knows no
model and no data; matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hashret._files import write_whole
from hashret._lazy import require
from hashret.errors import DataError
from hashret.evaluation.sections import Plot, Plots, Series

# Distinct in hue and in lightness, legible on white and on near-black, and by the colour-blind.
COLOURS = ("#2f6fd0", "#d9762b", "#1f9d73", "#a259c4", "#c8435a", "#7b8a12", "#0f8fa8")
INK, GREY, GRID = "#24221f", "#8a857d", "#dedad2"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

MOST_TICKS = 10
SIZES = {"wide": (10.0, 4.2), "half": (5.3, 3.5), "third": (3.7, 3.2)}  # inches; a page shows each at its full width


def draw(plot: Plot, *, size: str = "wide") -> Any:
    """A matplotlib ``Figure`` of the plot.

    Args:
        plot: what to draw.
        size: "wide" for a page, "half" or "third" for two or three side by side.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with _style():
        figure = require("matplotlib.figure", extra="report").Figure(figsize=SIZES[size], layout="constrained")
        axes = figure.add_subplot()
        lines = [series for series in plot.series if series.style == "line"]
        references = [series for series in plot.series if series.style == "reference"]
        for order, series in enumerate(lines):
            many = len(series.x) > 40
            axes.plot(
                series.x,
                series.y,
                color=COLOURS[order % len(COLOURS)],
                marker=None if many else MARKERS[order % len(MARKERS)],
                label=series.label,
                zorder=3,
            )
        for order, series in enumerate(references):
            _reference(axes, series, order=order)
        axes.set_xlabel(plot.x_label)
        axes.set_ylabel(plot.y_label)
        if plot.log_x:
            _powers_of_two(axes, [x for series in plot.series for x in series.x])
        elif all(float(x).is_integer() for series in plot.series for x in series.x):
            axes.xaxis.set_major_locator(require("matplotlib.ticker", extra="report").MaxNLocator(integer=True))
        if plot.from_zero:
            axes.set_ylim(bottom=0)
        if len(plot.series) > 1:
            columns = min(len(plot.series), {"wide": 5, "half": 3, "third": 2}[size])
            figure.legend(loc="outside upper left", ncols=columns, handlelength=1.8, columnspacing=1.6)
        return figure


def save(plot: Plot, path: str | Path, *, size: str = "wide") -> Path:
    """Write the plot as the file's ending says: .png, .pdf or .svg.

    Raises:
        DataError: another ending.
        MissingExtraError: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".png", ".pdf", ".svg"):
        raise DataError(f"a plot is saved as .png, .pdf or .svg, and not as {str(path)!r}")
    content = io.BytesIO()
    with _style():
        draw(plot, size=size).savefig(content, format=ending[1:], dpi=200, metadata=_no_date(ending))
    return write_whole(path, content.getvalue())


def svg(plot: Plot, *, size: str = "wide") -> str:
    """The plot as an ``<svg>`` element for a page; its colours are the page's variables ``--ink``, ``--s1`` …"""
    content = io.StringIO()
    with _style(salt=plot.title):
        draw(plot, size=size).savefig(content, format="svg", transparent=True, metadata=_no_date(".svg"))
    text = content.getvalue()
    element = text[text.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img">', element, count=1)
    for i, colour in enumerate(COLOURS, start=1):
        element = element.replace(colour, f"var(--s{i})")
    for colour, name in ((INK, "--ink"), (GREY, "--grey"), (GRID, "--grid")):
        element = element.replace(colour, f"var({name})")
    element = re.sub(r"font(-family)?: ?([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font\1: \2var(--sans)", element)
    return "\n".join(line.rstrip() for line in element.splitlines())


def curves(rows: Sequence[Mapping[str, Any]] | str | Path) -> Plots:
    """Losses and validation figures of a run by epoch.

    Args:
        rows: a mapping an epoch, or the path of ``curves.csv``. The first column named "epoch" is the x axis, names
            with "loss", "R@…" and "rSum…" each have their plot; "val." is left out of labels.

    Raises:
        DataError: the file is missing or holds no epoch.
    """
    if isinstance(rows, str | Path):
        try:
            with Path(rows).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"the curves {str(rows)!r} cannot be read: {error}") from error
    if not rows:
        raise DataError("there are no curves: the run has no epoch yet")
    names = list(dict.fromkeys(name for row in rows for name in row))
    x = tuple(_number(row.get("epoch", i)) for i, row in enumerate(rows, start=1))
    if not all(after > before for before, after in pairwise(x)):
        x = tuple(range(1, len(rows) + 1))  # several stages, each of which counts its own epochs

    def series(wanted: Sequence[str]) -> tuple[Series, ...]:
        return tuple(
            Series(name.removeprefix("val."), x, tuple(_number(row.get(name)) for row in rows)) for name in wanted
        )

    losses = [name for name in names if "loss" in name.lower()]
    parts = [name for name in losses if name.startswith("loss.")]
    if len(parts) == 1 and "loss" in losses:
        losses.remove(parts[0])  # one part is the whole
    groups = (
        ("Loss", losses, "loss"),
        ("Validation R@K", [name for name in names if re.search(r"\bR@\d+$", name)], "R@K, percent"),
        ("Validation rSum", [name for name in names if re.search(r"rSum(@\d+)?$", name)], "rSum"),
    )
    return Plots(
        "Training",
        tuple(
            Plot(title, series(wanted), "epoch", label, from_zero=title != "Loss")
            for title, wanted, label in groups
            if wanted
        ),
    )


def quality_against_bytes(
    title: str,
    methods: Mapping[str, Sequence[tuple[float, float]]],
    *,
    measure: str,
    ceiling: tuple[str, float] | None = None,
    chance: float | None = None,
    note: str = "",
) -> Plot:
    """What a method's codes are worth at each size.

    Args:
        title: heading.
        methods: by name, bytes an item and quality of each length; two lengths may take as many bytes.
        measure: full name of the measure, for the axis.
        ceiling: label and quality of the float vectors, drawn across.
        chance: quality of a random order, drawn across.
        note: a caption.
    """
    series = [
        Series(name, tuple(float(size) for size, _ in sorted(points)), tuple(value for _, value in sorted(points)))
        for name, points in methods.items()
    ]
    if ceiling is not None:
        series.append(Series(ceiling[0], (), (ceiling[1],), "reference"))
    if chance is not None:
        series.append(Series("chance", (), (chance,), "reference"))
    return Plot(title, tuple(series), "bytes an item", measure, log_x=True, note=note)


def _reference(axes: Any, series: Series, *, order: int) -> None:
    style = ((0, (5, 3)), (0, (1, 2)), "dashdot")[order % 3]
    options = {"color": GREY, "linestyle": style, "label": series.label, "zorder": 2, "linewidth": 1.4}
    if len(series.x) > 1:
        axes.plot(series.x, series.y, **options)
    else:
        axes.axhline(series.y[0], **options)


def _powers_of_two(axes: Any, values: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    known = [x for x in values if np.isfinite(x) and x > 0]
    if known:
        low, high = int(np.floor(np.log2(min(known)))), int(np.ceil(np.log2(max(known))))
        apart = 1 + (high - low) // MOST_TICKS  # labels of thousands must not run into each other
        ticks = [2.0**power for power in range(low, high + 1, apart)]
        axes.set_xticks(ticks, [f"{tick:,.0f}" if tick >= 1 else f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _no_date(ending: str) -> dict[str, None]:
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}[ending]


@contextmanager
def _style(salt: str = "hashret") -> Iterator[None]:
    """Quiet axes: no box, a light grid across, text that stays text in SVG."""
    settings = {
        "axes.edgecolor": GREY,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "lines.linewidth": 2,
        "lines.markersize": 5,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.color": INK,
        "xtick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.color": GREY,
        "ytick.labelcolor": INK,
        "ytick.major.size": 0,
    }
    with require("matplotlib", extra="report").rc_context(settings):
        yield
