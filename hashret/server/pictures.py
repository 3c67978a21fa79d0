"""Pictures: the files that a collection lists, as thumbnails, and pictures that are sent.

A file is opened only as the collection's metadata name it, never through a symbolic link, and only where it is a
regular file; what leaves is always drawn anew. Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hashret.data.decode import decode_image
from hashret.errors import DataError
from hashret.indexing.known import LISTING

if TYPE_CHECKING:
    from PIL.Image import Image

SIDES = (160, 320, 640, 1280)
QUERY_SIDE = 512  # pixels: no encoder looks at more
MAX_FILE_BYTES = 100 << 20


class Thumbnail(NamedTuple):
    """A picture, drawn anew as JPEG."""

    content: bytes
    tag: str


class Thumbnails:
    """Thumbnails of listed files, the last ones kept in memory.

    Args:
        max_bytes: kept.
        max_pixels: of a file; a larger JPEG is decoded smaller, anything else refused.
    """

    def __init__(self, *, max_bytes: int, max_pixels: int) -> None:
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._kept: OrderedDict[tuple[Any, ...], Thumbnail] = OrderedDict()
        self.kept_bytes = 0
        self._lock = threading.Lock()

    def draw(self, listed: str, side: int) -> Thumbnail:
        """The picture with its longer side at most ``side`` pixels.

        Raises:
            DataError: the file is missing, no plain file, or no picture.
        """
        with _opened(listed) as file:
            facts = os.fstat(file.fileno())
            key = (listed, facts.st_mtime_ns, facts.st_size, side)
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise DataError(f"the picture has more than {MAX_FILE_BYTES >> 20} MB, which is not shown")
        drawn = _drawn(_decoded(content, self._max_pixels, side), side)
        thumbnail = Thumbnail(drawn, hashlib.sha256(drawn).hexdigest()[:24])
        with self._lock:
            if key not in self._kept:
                self._kept[key] = thumbnail
                self.kept_bytes += len(drawn)
            while self.kept_bytes > self._max_bytes and self._kept:
                self.kept_bytes -= len(self._kept.popitem(last=False)[1].content)
        return thumbnail


def query_picture(content: bytes, *, max_pixels: int) -> Image:
    """A picture that was sent, small enough to wait in a queue.

    Raises:
        DataError: no picture, damaged, or of too many pixels.
    """
    image = _decoded(content, max_pixels, QUERY_SIDE)
    image.thumbnail((QUERY_SIDE * 2, QUERY_SIDE * 2))
    return image


def listed_file(metadata: dict[str, Any]) -> str | None:
    """The file that an item's metadata list."""
    listed = metadata.get("image")
    return listed if isinstance(listed, str) and listed else None


def listing_of(metadata: dict[str, Any], *, same_code: bool) -> dict[str, Any]:
    """What an item's metadata say of its file, if they list one, for metadata that come in their place.

    All of it goes together where the item was made from a folder: without it `hashret index` takes the file for a new
    one, and stores it again in the place of what a client has written. Only the file's digest is emptied where the
    item gets another code (``same_code`` is false): a picture of that content would be given the client's code.
    """
    if not metadata.keys() >= set(LISTING):
        return {name: metadata[name] for name in LISTING[:1] if name in metadata}
    kept = {name: metadata[name] for name in LISTING}
    return kept if same_code else {**kept, "content": ""}


def _decoded(content: bytes, max_pixels: int, side: int) -> Image:
    try:
        return decode_image(content, max_pixels=max_pixels, size_hint=side)
    except MemoryError as error:
        raise DataError("the picture does not fit the memory; make it smaller") from error


def _drawn(image: Image, side: int) -> bytes:
    image.thumbnail((side, side), reducing_gap=2.0)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=86)
    return content.getvalue()


def _opened(listed: str) -> Any:
    """The listed file, open for reading; errors do not say where it lies."""
    name = Path(listed).name
    try:
        descriptor = os.open(listed, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise DataError(f"the file {name!r} of this item cannot be opened; index the pictures again") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"the file {name!r} of this item is no plain file")
    return os.fdopen(descriptor, "rb")
