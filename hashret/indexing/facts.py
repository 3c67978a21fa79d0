"""What a photo says about itself: size, time, camera. Reads headers only and decodes no pixels."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from datetime import UTC, datetime
from typing import Any

from hashret._lazy import require
from hashret.indexing.walk import Found

_TURNED = (5, 6, 7, 8)  # EXIF orientations whose width and height are exchanged
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")


def facts_of(found: Found, content: bytes, digest: str) -> dict[str, Any]:
    """The metadata of a photo; what its file does not say is left out.

    Args:
        found: the file.
        content: its bytes.
        digest: of ``content``.

    Returns:
        image        the file's path                        folder   the folder inside the root, "" at the top
        bytes        size of the file                       modified UTC time of the last change, ISO 8601
        mtime_ns     the same, exactly                      content  the digest
        width, height  pixels, upright                      taken    when, ISO 8601 without a zone; year, its number
        camera       maker and model
    """
    facts: dict[str, Any] = {
        "image": str(found.path),
        "folder": found.id.rpartition("/")[0],
        "bytes": found.size,
        "mtime_ns": found.mtime_ns,
        "content": digest,
    }
    with contextlib.suppress(ValueError, OverflowError, OSError):  # years beyond 9999, from a disk with a broken clock
        facts["modified"] = datetime.fromtimestamp(found.mtime_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # a damaged header may warn and raise anything; where the picture is damaged too, the encoder tells
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts |= _from_header(content)
    return facts


def _from_header(content: bytes) -> dict[str, Any]:
    require("PIL", extra="onnx")  # the lightest extra that brings Pillow and can encode
    from PIL import ExifTags, Image

    with Image.open(io.BytesIO(content)) as picture:
        width, height = picture.size
        facts: dict[str, Any] = {"width": width, "height": height}
        exif = picture.getexif()
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    if tags.get(ExifTags.Base.Orientation) in _TURNED:
        facts |= {"width": height, "height": width}
    taken = _time(tags.get(ExifTags.Base.DateTimeOriginal) or tags.get(ExifTags.Base.DateTime))
    if taken is not None:
        facts |= {"taken": taken.isoformat(), "year": taken.year}
    camera = _camera(_text(tags.get(ExifTags.Base.Make)), _text(tags.get(ExifTags.Base.Model)))
    return facts | ({"camera": camera} if camera else {})


def _time(value: Any) -> datetime | None:
    match = _TIME.match(_text(value))
    try:
        return datetime(*map(int, match.groups())) if match else None  # type: ignore[arg-type]
    except ValueError:  # cameras without a clock write zeros
        return None


def _camera(maker: str, model: str) -> str:
    """Both, unless the model repeats the maker's name, as many do."""
    first = maker.split(" ")[0].lower()
    return model if first and model.lower().startswith(first) else f"{maker} {model}".strip()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return " ".join(str(value or "").replace("\0", " ").split()).encode("utf-8", "replace").decode()
