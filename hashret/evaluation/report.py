"""Self-contained HTML reports: one file, no outside resource, pictures inside, light and dark.

    write_report("report.html", Report("Emoji, 128 bits", (Facts(…), Table(…), Plot(…), Gallery(…))))

Draws the values of ``sections``; knows nothing of models. The page forbids itself to load anything
(Content-Security-Policy), so that it can be mailed and kept.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any

from hashret._files import write_whole
from hashret.errors import InputError
from hashret.evaluation import plots
from hashret.evaluation._style import STYLE
from hashret.evaluation.pictures import data_uri
from hashret.evaluation.sections import (
    Commands,
    Credits,
    Fact,
    Facts,
    Gallery,
    Hit,
    Plot,
    Plots,
    Query,
    Report,
    Section,
    Series,
    Table,
    Text,
)

__all__ = [
    "Commands",
    "Credits",
    "Fact",
    "Facts",
    "Gallery",
    "Hit",
    "Plot",
    "Plots",
    "Query",
    "Report",
    "Section",
    "Series",
    "Table",
    "Text",
    "render",
    "write_report",
]

HIT_SIDE, QUERY_SIDE = 260, 300  # pixels: twice what is shown, for fine screens


def write_report(path: str | Path, report: Report) -> Path:
    """Write a report as one HTML file.

    Raises:
        MissingExtraError: a plot or a picture needs matplotlib or Pillow.
        StorageError: the file cannot be written.
    """
    return write_whole(path, render(report))


def render(report: Report) -> str:
    """The page, as text.

    Raises:
        InputError: something else than a section among the sections.
    """
    for section in report.sections:
        if type(section) not in _DRAWN:
            names = ", ".join(kind.__name__ for kind in _DRAWN)
            raise InputError(f"a report is made of {names}, and not of {type(section).__name__}")
    anchors = [f"{i}-{_slug(section.title)}" for i, section in enumerate(report.sections, start=1)]
    links = [
        f'<a href="#{anchor}">{escape(section.title)}</a>'
        for anchor, section in zip(anchors, report.sections)
        if section.title
    ]
    navigation = f"<nav>{''.join(links)}</nav>" if len(links) > 2 else ""
    subtitle = f'<p class="subtitle">{escape(report.subtitle)}</p>' if report.subtitle else ""
    made = f"Written by hashret {metadata.version('hashret')} on {datetime.now(UTC):%d %B %Y, %H:%M} UTC."
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="kicker">hashret</p>
<h1>{escape(report.title)}</h1>
{subtitle}{navigation}
</header>
<main>
{"".join(_section(section, anchor) for section, anchor in zip(report.sections, anchors))}
</main>
<footer>{escape(made)}</footer>
</body>
</html>
"""


def _section(section: Section, anchor: str) -> str:
    heading = f"<h2>{escape(section.title)}</h2>" if section.title else ""
    note = f'<p class="note">{escape(note)}</p>' if (note := getattr(section, "note", "")) else ""
    place = f' id="{anchor}"' if section.title else ""
    return f"<section{place}>{heading}{note}{_DRAWN[type(section)](section)}</section>\n"


def _text(section: Text) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs)


def _facts(section: Facts) -> str:
    cells = "".join(
        f'<div class="fact"><b>{escape(fact.value)}</b><span>{escape(fact.label)}</span>'
        f"<small>{escape(fact.note)}</small></div>"
        for fact in section.facts
    )
    return f'<div class="facts">{cells}</div>'


def _table(section: Table) -> str:
    words = [
        i > 0
        and any(isinstance(row[i], str) for row in section.rows)
        and not any(_is_number(row[i]) for row in section.rows)
        for i in range(len(section.columns))
    ]
    best = {}
    for name, better in section.best.items():
        column = section.columns.index(name)
        numbers = [row[column] for row in section.rows if _is_number(row[column]) and row[0] not in section.aside]
        if numbers:
            best[column] = _cell(max(numbers) if better == "higher" else min(numbers), section.digits)

    def cell(row: tuple[Any, ...], i: int) -> str:
        text = escape(_cell(row[i], section.digits))
        winner = _is_number(row[i]) and row[0] not in section.aside and best.get(i) == _cell(row[i], section.digits)
        return f"<td{_class('words', words[i])}>{f'<b>{text}</b>' if winner else text}</td>"

    head = "".join(
        f'<th scope="col"{_class("words", words[i])}>{escape(c)}</th>' for i, c in enumerate(section.columns)
    )
    body = "".join(
        f"<tr{_class('aside', row[0] in section.aside)}>"
        f'<th scope="row">{escape(_cell(row[0], section.digits))}</th>'
        f"{''.join(cell(row, i) for i in range(1, len(row)))}</tr>"
        for row in section.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(section: Plot) -> str:
    return f'<figure class="plot">{_svg(section, "wide")}</figure>'


def _plots(section: Plots) -> str:
    size = "half" if len(section.plots) in (2, 4) else "third"
    figures = "".join(
        f'<figure class="plot"><h3>{escape(plot.title)}</h3>{_svg(plot, size)}'
        f"{f'<figcaption>{escape(plot.note)}</figcaption>' if plot.note else ''}</figure>"
        for plot in section.plots
    )
    return f'<div class="plots {size}">{figures}</div>'


def _svg(plot: Plot, size: str) -> str:
    lines = ", ".join(series.label for series in plot.series)
    label = escape(f"{plot.title}: {plot.y_label} by {plot.x_label}; {lines}", quote=True)
    return plots.svg(plot, size=size).replace("<svg ", f'<svg aria-label="{label}" ', 1)


def _gallery(section: Gallery) -> str:
    hits = [hit for _, found in section.rows for hit in found]
    parts = []
    if any(hit.correct is not None for hit in hits):
        parts.append("<span><i></i>correct</span>")
    if any(hit.distance is not None for hit in hits):
        parts.append("<span>below each hit: its distance to the query, in bits</span>")
    legend = f'<p class="legend">{"".join(parts)}</p>' if parts else ""
    columns = max([6, *(len(found) for _, found in section.rows)])
    return legend + "".join(
        f'<div class="row"><div class="asked">{_query(query)}</div>{_hits(found, columns)}</div>'
        for query, found in section.rows
    )


def _query(query: Query) -> str:
    picture = _image(query.image, query.text or "query picture", QUERY_SIDE) if query.image is not None else ""
    return picture + (f"<q>{escape(query.text)}</q>" if query.text else "")


def _hits(found: tuple[Hit, ...], columns: int) -> str:
    if found and all(hit.image is None for hit in found):
        lines = "".join(
            f"<li{_class('right', bool(hit.correct))}>{_distance(hit)}<span>{escape(hit.caption)}</span></li>"
            for hit in found
        )
        return f'<ol class="lines">{lines}</ol>'
    return f'<div class="hits" style="--columns: {min(columns, 10)}">{"".join(_hit(hit) for hit in found)}</div>'


def _hit(hit: Hit) -> str:
    shown = _image(hit.image, hit.caption, HIT_SIDE) if hit.image is not None else '<div class="words">no picture</div>'
    caption = f"<span>{_distance(hit)} {escape(hit.caption)}</span>"
    label = escape(hit.caption + (" (correct)" if hit.correct else ""), quote=True)
    return (
        f'<figure{_class("hit right" if hit.correct else "hit", True)} title="{label}">'
        f'<div class="frame">{shown}</div><figcaption>{caption}</figcaption></figure>'
    )


def _distance(hit: Hit) -> str:
    return f"<b>{hit.distance:g}</b>" if hit.distance is not None else ""


def _image(picture: Any, caption: str, side: int) -> str:
    uri = data_uri(picture, side=side)
    if uri is None:
        return '<div class="words">this picture cannot be read</div>'
    return f'<img src="{uri}" alt="{escape(caption, quote=True)}" loading="lazy">'


def _commands(section: Commands) -> str:
    lines = "\n".join(f'<span class="prompt">$ </span>{escape(line)}' for line in section.lines)
    return f"<pre>{lines}</pre>"


def _credits(section: Credits) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in section.lines)}</ul>"


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _class(name: str, wanted: bool) -> str:
    return f' class="{name}"' if wanted else ""


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


_DRAWN: dict[type, Any] = {
    Text: _text,
    Facts: _facts,
    Table: _table,
    Plot: _plot,
    Plots: _plots,
    Gallery: _gallery,
    Commands: _commands,
    Credits: _credits,
}
