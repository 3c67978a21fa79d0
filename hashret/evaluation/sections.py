"""What a report is made of: plain values, drawn by ``report`` (HTML), ``plots`` (SVG, PNG) and ``contact_sheet``.

    Report ─► sections: Text | Facts | Table | Plot | Plots | Gallery | Commands | Credits

Nothing here draws or computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Picture = Path | str | Any
"""A path, a PIL image, encoded bytes or an array (H, W, 3): whatever ``hashret.data.decode_image`` takes."""


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text under a heading."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One figure that should be seen first: "58.3 %", "R@10, words to pictures", "chance 3.3 %"."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """A few facts in a row; four fit well."""

    facts: tuple[Fact, ...]
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row.

    Attributes:
        title: heading.
        columns: headers; a metric goes by its full name.
        rows: cells, strings or numbers; None prints as a dash.
        note: what the reader must know, below the heading.
        digits: decimals of floats.
        best: columns whose best number is set in bold, and whether "higher" or "lower" is better.
        aside: names of rows that are set apart from the comparison (a ceiling, chance).
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""
    digits: int = 1
    best: Mapping[str, str] = field(default_factory=dict)
    aside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Attributes:
        label: in the legend.
        x, y: points of equal number; a NaN breaks the line.
        style: "line", or "reference" for a ceiling or chance: grey and dashed; one point then spans the plot.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "reference"] = "line"


@dataclass(frozen=True)
class Plot:
    """A plot of a few lines.

    Attributes:
        title: heading.
        series: the lines.
        x_label, y_label: axes, with units.
        log_x: powers of two on the x axis.
        from_zero: the y axis starts at zero.
        note: a caption.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    from_zero: bool = True
    note: str = ""


@dataclass(frozen=True)
class Plots:
    """Several plots side by side."""

    title: str
    plots: tuple[Plot, ...]
    note: str = ""


@dataclass(frozen=True)
class Query:
    """What was asked: words, a picture, or both (a picture and what it shows)."""

    text: str = ""
    image: Picture | None = None


@dataclass(frozen=True)
class Hit:
    """What was found.

    Attributes:
        image: its picture; without one the caption is shown in its place.
        caption: its words.
        distance: Hamming distance to the query.
        correct: whether it is right; None where nobody knows.
    """

    image: Picture | None = None
    caption: str = ""
    distance: float | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class Gallery:
    """Queries with their hits, nearest first."""

    title: str
    rows: tuple[tuple[Query, tuple[Hit, ...]], ...]
    note: str = ""


@dataclass(frozen=True)
class Commands:
    """Shell lines that reproduce the report."""

    title: str
    lines: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Credits:
    """Whose pictures, words, weights and ideas are shown or used."""

    lines: tuple[str, ...]
    title: str = "Credits"


Section = Text | Facts | Table | Plot | Plots | Gallery | Commands | Credits


@dataclass(frozen=True)
class Report:
    """A report: a title, a line below it, and sections in reading order."""

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
