"""Contact sheets: one PNG with a row for each query, what was asked on the left, the hits with their distances right.

Draws ``sections.Gallery`` rows with Pillow; knows nothing of models.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashret._files import write_whole
from hashret._lazy import require
from hashret.errors import InputError
from hashret.evaluation.pictures import thumbnail
from hashret.evaluation.sections import Hit, Query

PAPER, INK, SOFT, RULE, RIGHT = "#faf9f6", "#24221f", "#6f6a62", "#e0dcd3", "#15875f"
CELL, GAP, MARGIN, LABEL, ASKED = 152, 16, 36, 46, 250  # pixels


def contact_sheet(
    path: str | Path, queries: Sequence[Query], hits: Sequence[Sequence[Hit]], *, title: str = ""
) -> Path:
    """Write a contact sheet.

    Args:
        path: of the PNG.
        queries: what was asked, words or pictures.
        hits: of each query, nearest first; those known to be correct are framed and ticked.
        title: a line above.

    Raises:
        InputError: queries and hits differ in number, or there are none.
        MissingExtraError: Pillow is not installed.
        StorageError: the file cannot be written.
    """
    if len(queries) != len(hits) or not queries:
        raise InputError(
            f"a contact sheet needs hits for each query: {len(queries)} queries, {len(hits)} lists of hits"
        )
    image_module, draw_module = (require(f"PIL.{name}", extra="report") for name in ("Image", "ImageDraw"))
    columns = max(len(found) for found in hits)
    head = 56 if title else 0
    width = 2 * MARGIN + ASKED + GAP + columns * (CELL + GAP) - GAP
    row_height = CELL + LABEL + GAP
    sheet = image_module.new("RGB", (width, 2 * MARGIN + head + len(queries) * row_height - GAP), PAPER)
    draw = draw_module.Draw(sheet)
    if title:
        draw.text((MARGIN, MARGIN - 8), title, fill=INK, font=_font(26))
    for row, (query, found) in enumerate(zip(queries, hits)):
        top = MARGIN + head + row * row_height
        if row or title:
            draw.line((MARGIN, top - GAP + 2, width - MARGIN, top - GAP + 2), fill=RULE)
        _asked(sheet, draw, query, top)
        for column, hit in enumerate(found):
            _hit(sheet, draw, hit, MARGIN + ASKED + GAP + column * (CELL + GAP), top)
    content = io.BytesIO()
    sheet.save(content, "PNG", optimize=True)
    return write_whole(path, content.getvalue())


def _asked(sheet: Any, draw: Any, query: Query, top: int) -> None:
    left, room = MARGIN, CELL
    if query.image is not None:
        _place(sheet, draw, query.image, left, top)
        top, room = top + CELL + 6, LABEL - 8
    if query.text:
        size = 22 if query.image is None else 15
        lines = _wrapped(draw, query.text, _font(size), width=ASKED - 12, rows=max(1, room // (size + 6)))
        draw.multiline_text((left, top), "\n".join(lines), fill=INK, font=_font(size), spacing=6)


def _hit(sheet: Any, draw: Any, hit: Hit, left: int, top: int) -> None:
    if hit.image is not None:
        _place(sheet, draw, hit.image, left, top)
    else:
        draw.rectangle((left, top, left + CELL, top + CELL), fill="white", outline=RULE)
        lines = _wrapped(draw, hit.caption, _font(15), width=CELL - 20, rows=6)
        draw.multiline_text((left + 10, top + 10), "\n".join(lines), fill=INK, font=_font(15), spacing=5)
    if hit.correct:
        draw.rectangle((left - 3, top - 3, left + CELL + 3, top + CELL + 3), outline=RIGHT, width=4)
        draw.rectangle((left + CELL - 24, top, left + CELL, top + 24), fill=RIGHT)
        corner = ((left + CELL - 18, top + 12), (left + CELL - 13, top + 17), (left + CELL - 6, top + 7))
        draw.line(corner, fill="white", width=3, joint="curve")
    label, x = top + CELL + 8, left
    if hit.distance is not None:
        text = f"{hit.distance:g}"
        draw.text((x, label), text, fill=INK, font=_font(15), stroke_width=0.4, stroke_fill=INK)
        x += int(draw.textlength(text, font=_font(15))) + 7
    if hit.caption and hit.image is not None:
        first = _wrapped(draw, hit.caption, _font(14), width=left + CELL - x, rows=1)
        draw.text((x, label + 1), first[0], fill=SOFT, font=_font(14))


def _place(sheet: Any, draw: Any, picture: Any, left: int, top: int) -> None:
    """The picture in the middle of a white square."""
    draw.rectangle((left, top, left + CELL, top + CELL), fill="white", outline=RULE)
    image = thumbnail(picture, side=CELL)
    if image is None:
        draw.text((left + 10, top + 10), "not readable", fill=SOFT, font=_font(14))
        return
    sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))


def _wrapped(draw: Any, text: str, font: Any, *, width: int, rows: int) -> list[str]:
    """Lines that fit, the last one cut with an ellipsis where there is more."""
    lines, words = [""], text.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[:rows]
    last = kept[-1]
    if len(lines) > rows or draw.textlength(last, font=font) > width:
        while last and draw.textlength(last + "…", font=font) > width:
            last = last[:-1]
        kept[-1] = last.rstrip() + "…"
    return kept


def _font(size: int) -> Any:
    """Pillow's own outline font, so that a sheet looks the same everywhere."""
    return require("PIL.ImageFont", extra="report").load_default(size)
