"""Between the wire and hashret: codes as text, ids from addresses, hits as JSON, a deadline."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi.responses import Response

from hashret._json import json_object
from hashret._text import integer_id
from hashret.codes import Codes, bytes_for, check_codes
from hashret.collection import CollectionHits
from hashret.errors import InputError, UnknownIdError
from hashret.server.pictures import listed_file
from hashret.server.problems import busy
from hashret.server.schemas import EXACT, HIDDEN, public_filter

_TOGETHER = 16  # hits written by one call
_WRITER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def codes_from(texts: Sequence[str], *, encoding: str, n_bits: int) -> Codes:
    """(N, n_bytes) uint8 of N codes in hexadecimal or base64.

    Raises:
        InputError: one cannot be read, or has another length.
    """
    n_bytes = bytes_for(n_bits)
    rows = []
    for at, text in enumerate(texts):
        try:
            row = bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text.encode("ascii"), validate=True)
        except (ValueError, binascii.Error) as error:
            raise InputError(f"code {at} cannot be read as {encoding}") from error
        if len(row) != n_bytes:
            raise InputError(f"code {at} has {len(row)} bytes, and codes of {n_bits} bits have {n_bytes}")
        rows.append(row)
    return check_codes(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, n_bytes), n_bits=n_bits)


def where_from(text: str | None) -> dict[str, Any] | None:
    """A filter that came as a field of a form.

    Raises:
        InputError: it is no JSON object, or names what is not shown.
    """
    return public_filter(json_from(text, "where")) or None


def json_from(text: str | None, name: str) -> dict[str, Any]:
    """A JSON object that came as a field of a form; empty without one.

    Raises:
        InputError: it is no JSON object.
    """
    return {} if text is None or not text.strip() else json_object(text, name)


def numbered(text: str) -> int:
    """The integer id that a text must write.

    Raises:
        UnknownIdError: it writes none.
    """
    number = integer_id(text)
    if number is None:
        raise UnknownIdError(f"{text!r} is no number, so no item has it")
    return number


def id_of(id: str | int) -> dict[str, Any]:
    """An id as part of an answer; as a text too, where a reader may round the number."""
    return {"id": id} if isinstance(id, str) or abs(id) <= EXACT else {"id": id, "id_text": str(id)}


def shown(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata as the world sees them: without the place of the file."""
    return {name: value for name, value in metadata.items() if name != HIDDEN}


def thumbnail_of(id: str | int, metadata: dict[str, Any]) -> str | None:
    """Where the small picture of an item is."""
    if listed_file(metadata) is None:
        return None
    return f"/api/thumbnail?id={quote(str(id), safe='')}" + ("&number=true" if isinstance(id, int) else "")


def hits_of_one(hits: CollectionHits) -> bytes:
    """The hits of the only query as ``schemas.Hits``."""
    return b'{"hits":%b}' % _written(_found(hits, 0))


def hits_of_each(hits: CollectionHits) -> bytes:
    """The hits of every query as ``schemas.Results``."""
    results = (b'{"hits":%b}' % _written(_found(hits, row)) for row in range(len(hits.ids)))
    return b'{"results":[%b]}' % b",".join(results)


def items_of(hits: CollectionHits) -> bytes:
    """The hits of the only query as ``schemas.ListedItems``, which have no distances."""
    found = _found(hits, 0)
    for hit in found:
        del hit["distance"]
    return b'{"items":%b}' % _written(found)


def _found(hits: CollectionHits, row: int) -> list[dict[str, Any]]:
    """The hits of one query as ``schemas.Hit``."""
    return [
        {**id_of(id), "distance": distance, "metadata": shown(about), "thumbnail": thumbnail_of(id, about)}
        for id, distance, about in zip(hits.ids[row].tolist(), hits.distances[row].tolist(), hits.metadata[row])
        if distance >= 0 and about is not None
    ]


def _written(entries: list[dict[str, Any]]) -> bytes:
    """A list as JSON, a few entries at a time: as long as one call writes, no other thread gets Python's lock."""
    pieces = (_WRITER.encode(entries[at : at + _TOGETHER])[1:-1] for at in range(0, len(entries), _TOGETHER))
    return f"[{','.join(pieces)}]".encode()


def answer(content: Any, status: int = 200) -> Response:
    """JSON that nobody keeps."""
    return sent(_WRITER.encode(content).encode(), status)


def sent(content: bytes, status: int = 200) -> Response:
    """JSON that is written already, and that nobody keeps."""
    return Response(content, status, {"Cache-Control": "no-store"}, "application/json")


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Give up after ``seconds``.

    Raises:
        ApiError: 503, then.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise busy(f"there is no answer after {seconds:g} s; try again, or ask for less") from None
