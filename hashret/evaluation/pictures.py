"""Thumbnails for reports and contact sheets. A picture that cannot be read becomes a placeholder, never an error.

Knows Pillow and ``hashret.data.decode_image``; nothing of hits.
"""

from __future__ import annotations

import base64
import io
from typing import Any

from hashret._lazy import require
from hashret.data import decode_image
from hashret.errors import DataError
from hashret.evaluation.sections import Picture


def thumbnail(picture: Picture, *, side: int) -> Any | None:
    """The picture as RGB within ``side`` x ``side`` pixels, its proportions kept; None where it cannot be read."""
    try:
        image = decode_image(picture, size_hint=side)
    except DataError:
        return None
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, require("PIL.Image", extra="report").Resampling.LANCZOS)


def data_uri(picture: Picture, *, side: int) -> str | None:
    """A thumbnail as a ``data:`` URI, JPEG or PNG for flat drawings; None where the picture cannot be read."""
    image = thumbnail(picture, side=side)
    if image is None:
        return None
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=84, optimize=True)
    content, kind = jpeg.getvalue(), "jpeg"
    if image.getcolors(4096):  # a flat drawing: a palette has none of JPEG's noise around edges
        png = io.BytesIO()
        image.quantize(64).save(png, "PNG", optimize=True)
        if len(png.getvalue()) < 1.5 * len(content):
            content, kind = png.getvalue(), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
